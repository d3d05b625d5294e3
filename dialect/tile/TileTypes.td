//===- TileTypes.td - tiles, fragments, rings ---------------*- tablegen -*-===//

#ifndef GOSSAMER_TILE_TYPES
#define GOSSAMER_TILE_TYPES

include "dialect/tile/TileDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

/// A type that is written as a shape and an element type, as `<64x128xf32>`.
class Tile_ShapedType<string name, string keyword> : TypeDef<Tile_Dialect, name> {
  let mnemonic = keyword;
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape,
                        "::mlir::Type":$elementType);
  let builders = [
    TypeBuilderWithInferredContext<(ins "::llvm::ArrayRef<int64_t>":$shape,
                                        "::mlir::Type":$elementType), [{
      return $_get(elementType.getContext(), shape, elementType);
    }]>
  ];
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Rows and columns of a tile.
    int64_t getRows() const { return getShape()[getShape().size() - 2]; }
    int64_t getColumns() const { return getShape().back(); }
  }];
}

def Tile_Map : Tile_ShapedType<"Map", "map"> {
  let summary = "a tensor in global memory of which boxes are moved at once";
  let description = [{
    Of four dimensions: batch, head, row and column; columns lie side by side.
    The shape is the box that one asynchronous copy moves: rows x columns. What of
    a box lies outside of the tensor is read as 0, and is not written.

    One that is `joined` stands for two tensors, one behind the other along the
    rows (`tile.join`); a box lies in one of them.

    Example: `!tile.map<128x64xbf16>`, `!tile.map<128x64xbf16, joined>`
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape,
                        "::mlir::Type":$elementType, "bool":$joined);
  let builders = [
    TypeBuilderWithInferredContext<(ins "::llvm::ArrayRef<int64_t>":$shape,
                                        "::mlir::Type":$elementType,
                                        CArg<"bool", "false">:$joined), [{
      return $_get(elementType.getContext(), shape, elementType, joined);
    }]>
  ];
}

def Tile_Shared : Tile_ShapedType<"Shared", "shared"> {
  let summary = "a tile in shared memory";
  let description = [{
    Rows x columns of a 16-bit type. `panel` is said where the tile is some rows of
    a larger one: the number of rows of that.

    Example: `!tile.shared<64x128xbf16, panel = 128>`
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape,
                        "::mlir::Type":$elementType, "int64_t":$panel);
  let builders = [
    TypeBuilderWithInferredContext<(ins "::llvm::ArrayRef<int64_t>":$shape,
                                        "::mlir::Type":$elementType,
                                        "int64_t":$panel), [{
      return $_get(elementType.getContext(), shape, elementType, panel);
    }]>
  ];
}

def Tile_Ring : Tile_ShapedType<"Ring", "ring"> {
  let summary = "tiles in shared memory, passed from a producer to consumers";
  let description = [{
    Stages x rows x columns. A stage is full when all that was loaded into it has
    arrived, and free when every consumer has released it.

    Example: `!tile.ring<2x128x128xbf16>`
  }];
}

def Tile_Queue : Tile_ShapedType<"Queue", "queue"> {
  let summary = "numbers, passed from a producer to consumers";
  let description = [{
    Slots x numbers of a message.

    Example: `!tile.queue<2x4xi32>`
  }];
}

def Tile_Series : Tile_ShapedType<"Series", "series"> {
  let summary = "series of numbers, passed from a producer to consumers";
  let description = [{
    Stages x series x numbers of f32: a ring of what belongs to rows or columns.

    Example: `!tile.series<2x2x64xf32>`
  }];
}

def Tile_Fragment : Tile_ShapedType<"Fragment", "fragment"> {
  let summary = "a tile in the registers of a warpgroup";
  let description = [{
    64 rows of f32: what a matrix product accumulates.

    Example: `!tile.fragment<64x128xf32>`
  }];
}

def Tile_Pending : Tile_ShapedType<"Pending", "pending"> {
  let summary = "a fragment that is being computed";
  let description = [{
    The result of a `tile.mma`; nothing but `tile.await` can read it.

    Example: `!tile.pending<64x128xf32>`
  }];
}

def Tile_Operand : Tile_ShapedType<"Operand", "operand"> {
  let summary = "a left side of matrix products in the registers of a warpgroup";
  let description = [{
    Example: `!tile.operand<64x128xbf16>`
  }];
}

def Tile_Rows : Tile_ShapedType<"Rows", "rows"> {
  let summary = "a number for each row of a fragment";
  let description = [{
    `partial`: what each thread has made of the columns that it holds;
    `tile.combine` makes it whole.

    Example: `!tile.rows<64xf32>`, `!tile.rows<64xf32, partial>`
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape,
                        "::mlir::Type":$elementType, "bool":$partial);
  let builders = [
    TypeBuilderWithInferredContext<(ins "int64_t":$rows,
                                        "::mlir::Type":$elementType,
                                        "bool":$partial), [{
      return $_get(elementType.getContext(), ::llvm::ArrayRef<int64_t>(rows),
                   elementType, partial);
    }]>
  ];
  let extraClassDeclaration = [{
    int64_t getRows() const { return getShape().front(); }
  }];
}

def Tile_Columns : Tile_ShapedType<"Columns", "columns"> {
  let summary = "a number for each column of a fragment";
  let description = [{
    Example: `!tile.columns<64xf32>`
  }];
}

def Tile_Bits : Tile_ShapedType<"Bits", "bits"> {
  let summary = "a bit for each element of a fragment, in registers";
  let description = [{
    Example: `!tile.bits<64x128xi1>`
  }];
}

def Tile_Producer : I32EnumAttrCase<"Producer", 0, "producer">;
def Tile_Consumer : I32EnumAttrCase<"Consumer", 1, "consumer">;
def Tile_RoleKind : I32EnumAttr<"RoleKind", "what warpgroups do",
                                [Tile_Producer, Tile_Consumer]> {
  let cppNamespace = "::gossamer::tile";
}

def Tile_Max : I32EnumAttrCase<"Max", 0, "max">;
def Tile_Sum : I32EnumAttrCase<"Sum", 1, "sum">;
def Tile_Combining : I32EnumAttr<"Combining", "how numbers of a row are combined",
                                 [Tile_Max, Tile_Sum]> {
  let cppNamespace = "::gossamer::tile";
}

#endif // GOSSAMER_TILE_TYPES
