//===- AmpereProgram.cpp - roles, barriers, messages ----------------------===//

#include "passes/tile/ampere/AmpereProgram.h"

using namespace mlir;
using namespace gossamer::tile;

/// Warps of consumers come first, so that a warpgroup of theirs is 128 threads
/// that follow one another, and then the producer's.
Value AmpereProgram::warpgroupOf(Value thread) {
  int64_t consumers = program.getNumConsumers(), producer = 0;
  bool hasProducer = false;
  for (RoleOp role : program.getOps<RoleOp>()) {
    hasProducer |= role.getKind() == RoleKind::Producer;
    if (!hasProducer)
      producer += role.getWarpgroups();
  }
  Value four = ptx.shiftRight(thread, 7);
  if (!hasProducer)
    return four;
  Value behind = LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::uge, four,
                                      ptx.i32(producer));
  Value consumer =
      ptx.add(four, LLVM::ZExtOp::create(b, loc, b.getI32Type(), behind));
  return LLVM::SelectOp::create(b, loc, ptx.equals(four, consumers),
                                ptx.i32(producer), consumer);
}

LogicalResult AmpereProgram::emitRole(RoleOp role, int64_t firstWarpgroup) {
  roleWarpgroup = ptx.add(warpgroup, ptx.i32(-firstWarpgroup));
  set(role.getBody().getArgument(0), {roleWarpgroup});
  if (failed(lowerBlock(role.getBody().front())))
    return failure();
  if (role.getKind() == RoleKind::Producer) // copies must not outlive it
    ptx.assembly("cp.async.wait_all;", "~{memory}", {}, {});
  return success();
}

/// Every lane arrives when its part of a copy has; a message is sent by one.
int64_t AmpereProgram::arrivalsToFill(Type type) {
  return isa<QueueType>(type) ? 1 : 32;
}

void AmpereProgram::waitBarrier(Value barrier, Value parity) {
  ptx.testBarrier(barrier, parity);
}

void AmpereProgram::joinWarp() {
  ptx.assembly("bar.warp.sync 0xffffffff;", "~{memory}", {}, {});
}

void AmpereProgram::once(llvm::function_ref<void()> body) {
  auto only = scf::IfOp::create(b, loc, isFirstLane, /*withElseRegion=*/false);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(only.thenBlock()->getTerminator());
    body();
  }
  joinWarp();
}

void AmpereProgram::lowerNext(NextOp op) {
  Value first = LLVM::ZExtOp::create(b, loc, b.getI32Type(), isFirstLane);
  Value last = ptx.add(get(op.getWrap()), ptx.i32(-1));
  Value number =
      ptx.assembly("{ .reg .pred p; setp.ne.b32 p, $3, 0; mov.b32 $0, 0; "
                   "@p atom.global.inc.u32 $0, [$1], $2; }",
                   "=&r,l,r,r,~{memory}", {get(op.getCounter()), last, first},
                   op.getType())
          .front();
  set(op, {ptx.broadcast(number)});
}

void AmpereProgram::lowerSend(SendOp op) {
  once([&] { ProgramLowering::lowerSend(op); });
}

void AmpereProgram::lowerRelease(ReleaseOp op) {
  const Place &place = places[op.getRing()];
  joinWarp(); // all lanes have read
  ptx.arrive(slotAddress(place.empty, 8, place.stages, get(op.getNumber())),
             isFirstLane);
}
