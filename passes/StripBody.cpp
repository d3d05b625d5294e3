//===- StripBody.cpp - a body on vectors of stored entries ----------------===//

#include "passes/StripBody.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace gossamer;

AffineMap gossamer::placeOfEntry(MLIRContext *context) {
  return AffineMap::getMultiDimIdentityMap(1, context);
}

/// Of the widest number in a body; vectors of indices have 8 bytes each.
static unsigned widestNumber(Block &body) {
  unsigned bytes = 4;
  auto look = [&](Type type) {
    if (type.isIndex() || type.getIntOrFloatBitWidth() > 32)
      bytes = 8;
  };
  llvm::for_each(body.getArgumentTypes(), look);
  for (Operation &op : body)
    llvm::for_each(op.getResultTypes(), look);
  return bytes;
}

/// The loop along the lanes; one that is none where it does not matter to the
/// body which of them a lane is; nothing where it does, and lanes are no range.
static std::optional<unsigned> findLane(Block &body, const Storage &storage,
                                        const StoredRuns &runs, AffineMap map,
                                        const BodyOperands &operands,
                                        const StoredLines &lines) {
  auto loopOf = [&](unsigned dim) {
    return cast<AffineDimExpr>(map.getResult(dim)).getPosition();
  };
  unsigned rank = storage.type.getDimRank();
  if (auto lvl = lines.getBlockLevel()) {
    for (unsigned dim = 0; dim < rank; ++dim)
      if (storage.isAlong(*lvl, dim))
        return loopOf(dim);
    return {};
  }
  for (unsigned dim = 0; dim < rank; ++dim) {
    if (runs.isCommon(dim))
      continue;
    for (auto [map, isSparse] : llvm::zip(operands.maps, operands.sparse))
      if (!isSparse && map.isFunctionOfDim(loopOf(dim)))
        return {};
    for (auto index : body.getOps<IndexOp>())
      if (index.getDim() == dim)
        return {};
  }
  return map.getNumDims();
}

std::optional<StripBody> StripBody::find(Location loc, Block &body,
                                         const Storage &storage,
                                         const StoredRuns &runs, AffineMap map,
                                         const BodyOperands &operands,
                                         unsigned vectorBytes) {
  auto lines =
      StoredLines::find(loc, storage, runs, vectorBytes / widestNumber(body));
  if (!lines || !isVectorizable(body))
    return {};
  auto lane = findLane(body, storage, runs, map, operands, *lines);
  if (!lane)
    return {};
  return StripBody(loc, body, storage, map, operands, *lines, *lane);
}

Value StripBody::emit(OpBuilder &builder, const StoredLines::Strip &strip,
                      Value total) const {
  LanePoints points{loopsOfDims(map, storage.toDims(builder, strip.coords)),
                    lane, lines.getLanes(), Value()};
  AffineMap entry = placeOfEntry(builder.getContext());
  SmallVector<Value> args{
      loadPoints(builder, loc, storage.values, entry, strip.entries)};
  if (total)
    args.push_back(total);
  for (auto [buffer, map, isSparse] :
       llvm::zip(operands.buffers, operands.maps, operands.sparse))
    args.push_back(isSparse
                       ? loadPoints(builder, loc, buffer, entry, strip.entries)
                       : loadPoints(builder, loc, buffer, map, points));
  return inlineOnVectors(builder, loc, body, args, map, points);
}
