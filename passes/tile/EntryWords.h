//===- EntryWords.h - gs_entry(words), and what it reads of them -*- C++
//-*-===//

#ifndef GOSSAMER_PASSES_TILE_ENTRYWORDS_H
#define GOSSAMER_PASSES_TILE_ENTRYWORDS_H

#include "passes/tile/Numbers.h"
#include "passes/tile/TilePasses.h"

namespace gossamer::tile {

/// Writes the function gs_entry(words), which takes its words in order.
class EntryWords {
protected:
  explicit EntryWords(mlir::Operation *before)
      : b(before), loc(before->getLoc()),
        pointer(mlir::LLVM::LLVMPointerType::get(b.getContext())),
        n(b, loc, b.getI64Type()) {
    auto type = mlir::LLVM::LLVMFunctionType::get(
        mlir::LLVM::LLVMVoidType::get(b.getContext()), {pointer});
    auto function = mlir::LLVM::LLVMFuncOp::create(b, loc, "gs_entry", type);
    mlir::Block *entry = function.addEntryBlock(b);
    words = entry->getArgument(0);
    b.setInsertionPointToStart(entry);
  }

  /// The next word, a number unless another type of 64 bits is named.
  mlir::Value next(mlir::Type type = {}) {
    mlir::Value place = mlir::LLVM::GEPOp::create(
        b, loc, pointer, b.getI64Type(), words,
        llvm::ArrayRef<mlir::LLVM::GEPArg>{position++});
    return mlir::LLVM::LoadOp::create(b, loc, type ? type : b.getI64Type(),
                                      place);
  }

  /// A tensor of q's or k's kind; one of keys may have packed ones before it.
  struct Tensor {
    mlir::Value address, strides[3], packed;
  };

  Tensor nextTensor() {
    Tensor tensor{next(pointer), {}, {}};
    nextStrides(tensor);
    return tensor;
  }
  void nextStrides(Tensor &tensor) {
    for (mlir::Value &stride : tensor.strides)
      stride = next();
  }

  /// How many keys are packed, the row of the first other one, strides and
  /// addresses of what the keys of these tensors are packed in.
  void nextPacked(llvm::ArrayRef<Tensor *> tensors) {
    packedKeys = next();
    packedRows = next();
    for (mlir::Value &stride : packedStrides)
      stride = next();
    for (Tensor *tensor : tensors)
      tensor->packed = next(pointer);
  }

  /// Its sizes are those of batch, head, row and column.
  mlir::Value describe(const Tensor &tensor, mlir::ValueRange sizes,
                       MapType type) {
    mlir::Value map = DescribeOp::create(b, loc, type, tensor.address, sizes,
                                         mlir::ValueRange(tensor.strides));
    if (!tensor.packed)
      return map;
    llvm::SmallVector<mlir::Value> sizesOfPacked(sizes);
    sizesOfPacked[2] = packedKeys;
    mlir::Value first =
        DescribeOp::create(b, loc, type, tensor.packed, sizesOfPacked,
                           mlir::ValueRange(packedStrides));
    auto joined = MapType::get(type.getShape(), type.getElementType(),
                               /*joined=*/true);
    return JoinOp::create(b, loc, joined, first, map, packedRows);
  }

  /// An f32, whose bits are in the next word.
  mlir::Value nextFloat() {
    return mlir::arith::BitcastOp::create(b, loc, b.getF32Type(),
                                          narrow(next()));
  }

  mlir::Value narrow(mlir::Value word) {
    return mlir::arith::TruncIOp::create(b, loc, b.getI32Type(), word);
  }

  /// What a function of scores captures, of such types.
  llvm::SmallVector<mlir::Value> nextOf(mlir::TypeRange types) {
    llvm::SmallVector<mlir::Value> values;
    for (mlir::Type type : types)
      values.push_back(mlir::isa<mlir::MemRefType>(type) ? next(pointer)
                       : type.isF32()                    ? nextFloat()
                                                         : narrow(next()));
    return values;
  }

  /// On as many thread blocks as fit the device at once, and no more than there
  /// are tiles.
  void launch(ProgramOp program, mlir::Value tiles,
              mlir::ValueRange arguments) {
    auto name = mlir::FlatSymbolRefAttr::get(program.getSymNameAttr());
    mlir::Value resident = ResidentOp::create(b, loc, b.getI64Type(), name);
    LaunchOp::create(b, loc, name, n.min(tiles, resident), arguments);
  }

  void end() { mlir::LLVM::ReturnOp::create(b, loc, mlir::ValueRange()); }

  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type pointer;
  Numbers n;
  mlir::Value packedKeys, packedRows, packedStrides[3];

private:
  mlir::Value words;
  int32_t position = 0;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_ENTRYWORDS_H
