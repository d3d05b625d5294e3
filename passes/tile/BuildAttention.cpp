//===- BuildAttention.cpp - tile.attention becomes a program --------------===//

#include "passes/tile/AttentionPlan.h"
#include "passes/tile/BackwardPlan.h"
#include "passes/tile/ProgramParts.h"

#include "llvm/ADT/TypeSwitch.h"

namespace gossamer::tile {
#define GEN_PASS_DEF_BUILDATTENTION
#include "passes/tile/TilePasses.h.inc"
} // namespace gossamer::tile

using namespace mlir;
using namespace gossamer::tile;

/// As many as leave registers for the output.
static int64_t keysOfStep(AttentionOp op) {
  if (!op.getTarget().isHopper || op.getHead() > 128)
    return 64;
  return std::max(op.getBlockQ(), op.getBlockK());
}

AttentionPlan::AttentionPlan(AttentionOp op)
    : chip(op.getChip().str()), element(op.getElement()), head(op.getHead()),
      queries(op.getBlockQ()), keys(keysOfStep(op)), block(op.getBlockK()),
      gathered(keys / block), diagonal(op.getCausal() ? queries / keys : 1),
      staged(head > 128 ? 64 : head), consumers(queries / 64),
      listed(op.getListed()), partial(op.getPartial()), packed(op.getPacked()),
      causal(op.getCausal()), window(op.getWindow()), tail(op.getTail()),
      split(op.getSplit()), scored(!op.getScore().empty()) {
  if (op.getTarget().isHopper)
    fitHopper();
  else
    fit(op.getTarget());
}

/// Two thread blocks of few warps if they leave two stages each; then room for
/// the next queries, and a third stage.
void AttentionPlan::fit(const Target &target) {
  int64_t queryBytes = queries * head * 2, stepBytes = 2 * keys * head * 2;
  auto roomFor = [&](int64_t blocks) {
    return target.sharedBytesOf(blocks) - barrierBytes - queryBytes;
  };
  bool isSmall = consumers == 1;
  blocksPerProcessor = isSmall && roomFor(2) >= 2 * stepBytes ? 2 : 1;
  int64_t room = roomFor(blocksPerProcessor);
  queryStages = room >= queryBytes + 2 * stepBytes ? 2 : 1;
  room -= (queryStages - 1) * queryBytes;
  keyStages = valueStages = std::min<int64_t>(room / stepBytes, 3);
  int64_t warps = blocksPerProcessor * (4 * consumers + 1);
  producerRegisters = consumerRegisters = Target::registersOf(warps);
  keepsQueries = false;
}

void AttentionPlan::fitHopper() {
  // Of wide heads the output takes the registers.
  bool wide = head > 128;
  keepsQueries = !wide;
  queryStages = 1;
  // One warpgroup has so few keys at a time that a second thread block is
  // needed to fill a multiprocessor. With heads of 256, threads of two blocks
  // would be launched with fewer registers than a product has results.
  bool small = consumers == 1 && keys == 64;
  blocksPerProcessor = small && head < 256 ? 2 : 1;
  // Split programs wait for memory, and have no tile by which they store.
  keyStages = small || split ? 3 : 2;
  valueStages = split ? 3 : 2;
  if (wide)
    keyStages = valueStages = 3 - blocksPerProcessor;
  // A producer that gathers many small blocks keeps more rows at hand;
  // consumers with narrow heads can spare the registers.
  bool spare = gathered > (partial ? 1 : 2) || head == 64 || (wide && partial);
  int64_t more = spare ? 16 : 0;
  // And so does one that has a part of two lists.
  if (split && partial)
    more = gathered == 8 ? 32 : 16;
  producerRegisters = 40 + more;
  if (consumers == 2)
    consumerRegisters = 232 - more / 2;
  else
    consumerRegisters = small ? 216 - more : 240;
  if (small && blocksPerProcessor == 1) { // there is room for all
    producerRegisters = 56;
    consumerRegisters = 240;
  }
}

namespace {

struct BuildAttention
    : gossamer::tile::impl::BuildAttentionBase<BuildAttention> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<Operation *> ops;
    for (Operation &op : *module.getBody())
      if (isa<AttentionOp, AttentionBackwardOp>(op))
        ops.push_back(&op);
    if (ops.empty())
      return;
    if (ops.size() > 1) {
      ops[1]->emitOpError("is the second of this module, which has one entry");
      return signalPassFailure();
    }
    llvm::TypeSwitch<Operation *>(ops.front())
        .Case<AttentionOp, AttentionBackwardOp>([&](auto op) { build(op); });
    ops.front()->erase();
  }

private:
  void build(AttentionOp op) {
    AttentionPlan plan(op);
    std::string name = op.getSymName().str();
    ProgramOp program = buildAttentionProgram(op, plan, name + "_program");
    buildAttentionEntry(op, plan, program);
    sign("tile.attention", /*kernels=*/1);
  }

  void build(AttentionBackwardOp op) {
    BackwardPlan plan(op);
    std::string name = op.getSymName().str();
    ProgramOp queries = buildQueriesProgram(op, plan, name + "_queries");
    ProgramOp keys = buildKeysProgram(op, plan, name + "_keys");
    buildBackwardEntry(op, plan, queries, keys);
    sign("tile.attention_backward", /*kernels=*/2);
  }

  void sign(StringRef op, int kernels) {
    std::string text =
        R"({"entry": "gs_entry", "args": [], "results": [], "kernels": )" +
        std::to_string(kernels) + R"(, "report": [{"op": ")" + op.str() +
        R"(", "road": "fast"}]})";
    getOperation()->setAttr("gossamer.signature",
                            StringAttr::get(&getContext(), text));
  }
};

} // namespace
