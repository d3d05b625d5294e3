//===- LowerTileToHost.cpp - tile programs run on the processor -----------===//

#include "passes/tile/LowerEntry.h"
#include "passes/tile/host/HostProgram.h"

#include "llvm/ADT/StringMap.h"

namespace gossamer::tile {
#define GEN_PASS_DEF_LOWERTILETOHOST
#include "passes/tile/TilePasses.h.inc"
} // namespace gossamer::tile

using namespace mlir;
using namespace gossamer::tile;

namespace {

/// Launches of functions, a thread for each warpgroup.
class HostEntries : public EntryLowering {
public:
  HostEntries(ModuleOp module, const llvm::StringMap<HostInfo> &infos)
      : EntryLowering(module), infos(infos) {}

private:
  void describe(DescribeOp op, Value map) override {
    Type element = op.getResult().getType().getElementType();
    call(op, "gs_tile_map", nothing,
         {map, op.getAddress(), literal(element.getIntOrFloatBitWidth() / 8),
          words(op, op.getSizes()), words(op, op.getStrides())});
  }

  Value resident(ResidentOp op, ProgramOp) override {
    return call(op, "gs_tile_resident", word, {});
  }

  void launch(LaunchOp op, ProgramOp program, Value arguments) override {
    const HostInfo &info = infos.at(program.getSymName());
    std::string text = program.getSymName().str();
    SmallVector<int64_t> numbers{info.warpgroups, info.consumers,
                                 info.sharedBytes, info.scratchBytes,
                                 static_cast<int64_t>(info.rings.size())};
    for (const HostInfo::Ring &ring : info.rings) {
      text += "\n" + ring.name;
      numbers.append({ring.begin, ring.bytes, ring.stages});
    }
    SmallVector<Value> values;
    for (int64_t number : numbers)
      values.push_back(literal(number));
    LLVM::LLVMFuncOp run = info.function;
    Value function = LLVM::AddressOfOp::create(b, op.getLoc(), run);
    call(op, "gs_tile_launch", nothing,
         {function, textOf(program, text), words(op, values), op.getBlocks(),
          arguments});
  }

  /// A text that ends in a zero.
  Value textOf(ProgramOp program, std::string text) {
    std::string name = (program.getSymName() + "_text").str();
    text.push_back('\0');
    if (!module.lookupSymbol(name)) {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(module.getBody());
      LLVM::GlobalOp::create(
          b, module.getLoc(),
          LLVM::LLVMArrayType::get(b.getI8Type(), text.size()),
          /*isConstant=*/true, LLVM::Linkage::Internal, name,
          b.getStringAttr(text));
    }
    return LLVM::AddressOfOp::create(b, module.getLoc(), pointer, name);
  }

  const llvm::StringMap<HostInfo> &infos;
};

struct LowerTileToHost
    : gossamer::tile::impl::LowerTileToHostBase<LowerTileToHost> {
  using LowerTileToHostBase::LowerTileToHostBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<ProgramOp> programs(module.getOps<ProgramOp>());
    llvm::StringMap<HostInfo> infos;
    for (ProgramOp program : programs) {
      FailureOr<HostInfo> info =
          HostProgram(program, module, vectorBytes / 4).run();
      if (failed(info))
        return signalPassFailure();
      infos[program.getSymName()] = std::move(*info);
    }
    if (failed(HostEntries(module, infos).run()))
      return signalPassFailure();
    for (ProgramOp program : programs)
      program.erase();
  }
};

} // namespace
