//===- GossamerEnums.td - enums of the gossamer dialect -----*- tablegen -*-===//

#ifndef GOSSAMER_ENUMS
#define GOSSAMER_ENUMS

include "mlir/IR/EnumAttr.td"

def Gossamer_Combiner : I32EnumAttr<"Combiner",
    "what becomes of the products of a row", [
      I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Mean", 1, "mean">,
      I32EnumAttrCase<"Amax", 2, "amax">, I32EnumAttrCase<"Amin", 3, "amin">]> {
  let cppNamespace = "::gossamer";
}

#endif // GOSSAMER_ENUMS
