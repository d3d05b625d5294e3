//===- GpuLanes.h - loops whose iterations are lanes of a warp --*- C++ -*-===//
//
// A lowering says with an attribute what a GPU should make of a parallel loop
// inside of the outermost one: `gossamer.lanes = n` (a power of two, 32 at
// most) gives it to n lanes, which take every n-th iteration; what it reduces
// is summed by shuffles, in an order that does not depend on timing. Loops of
// that kind may be nested; all lanes of one iteration of the outermost loop are
// in one warp. Without the attribute an iteration is one thread's, and loops in
// it are serial.
//
// Lanes of the innermost loop are neighbours. Where those of a loop outside of
// it should be (they read what lies side by side), `gossamer.apart = m` on the
// inner one puts its lanes m apart, m being the lanes that are outside.
//
// What lies between such loops is computed by all lanes alike, but stored by
// one of them. Lanes do not see what others of them have stored: between lanes,
// numbers go through reductions alone.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_GPULANES_H
#define GOSSAMER_PASSES_GPULANES_H

#include "mlir/Dialect/SCF/IR/SCF.h"

namespace gossamer {

constexpr llvm::StringLiteral lanesAttrName = "gossamer.lanes";
constexpr llvm::StringLiteral apartAttrName = "gossamer.apart";
/// On an outermost loop: how many blocks of its kernel a multiprocessor should
/// hold at once at least, which bounds their registers. (Where nothing is said,
/// some assemblers bound them far lower, and put loads one behind the other.)
constexpr llvm::StringLiteral residentAttrName = "gossamer.resident";
/// On an outermost loop: the kernel of the next one, which `follows`, may begin
/// while this one's is running. On a loop that follows, and on scf.if inside of
/// it: what is in there reads what was stored by the kernel before, and waits
/// for its end. Nothing else in the loop may.
constexpr llvm::StringLiteral leadsAttrName = "gossamer.leads";
constexpr llvm::StringLiteral followsAttrName = "gossamer.follows";
constexpr int64_t warpSize = 32;

/// scf.parallel over [lower, upper) for `lanes` lanes (1: serial), without
/// results.
void forEachLane(mlir::OpBuilder &builder, mlir::Location loc,
                 mlir::Value lower, mlir::Value upper, int64_t lanes,
                 llvm::function_ref<void(mlir::OpBuilder &, mlir::Value)> body);

/// The same, and what `body` gives, a scalar or vector, is reduced with
/// `combine`, from `identity`. Lanes are `apart` from one another.
mlir::Value reduceOverLanes(
    mlir::OpBuilder &builder, mlir::Location loc, mlir::Value lower,
    mlir::Value upper, mlir::Value step, int64_t lanes, mlir::Value identity,
    llvm::function_ref<mlir::Value(mlir::OpBuilder &, mlir::Value)> body,
    llvm::function_ref<mlir::Value(mlir::OpBuilder &, mlir::Value, mlir::Value)>
        combine,
    int64_t apart = 1);

} // namespace gossamer

#endif // GOSSAMER_PASSES_GPULANES_H
