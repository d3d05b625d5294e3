//===- AttentionBuilder.h - builds the program of an attention --*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_ATTENTIONBUILDER_H
#define GOSSAMER_PASSES_TILE_ATTENTIONBUILDER_H

#include "passes/tile/AttentionPlan.h"
#include "passes/tile/ProgramParts.h"

namespace gossamer::tile {

/// AttentionProgram.cpp says what the program does.
class AttentionBuilder : ProgramParts {
public:
  AttentionBuilder(AttentionOp op, const AttentionPlan &plan,
                   llvm::StringRef name);
  ProgramOp build();

private:
  /// What the producer knows of a tile.
  struct Item {
    mlir::Value tile, entries, steps, list;
    // With partial blocks: the row of the lists, their number; and how many
    // steps are masked, with how many entries of the list (`splitSteps`).
    mlir::Value row, partials, masked, whole;
    // Of a split program instead of the row: its first partial block.
    mlir::Value partialList;
  };
  /// What consumers know of it.
  struct Header {
    mlir::Value tile, steps, first, allowed;
    // With partial blocks, where `allowed` entries are in masked steps: these
    // steps, and how many of the entries are whole blocks.
    mlir::Value masked, whole;
    // The first of the tile's partial blocks in the list of all.
    mlir::Value partialList;
  };
  /// The state of an online softmax: p as left side, maximum, partial sum.
  struct Softmax {
    mlir::Value p, maximum, sum;
  };
  /// Steps of keys before the queries' own: the first, and how many from there
  /// on have keys that are too far behind.
  struct Window {
    mlir::Value first, partial;
  };

  // AttentionProgram.cpp, for both roles
  Coordinates coordinatesOf(mlir::Value tile);
  /// This warpgroup's first query, of its head and of all heads.
  mlir::Value rowInHead(const Coordinates &at);
  mlir::Value firstRow(const Coordinates &at);
  mlir::Value stepsBefore(mlir::Value queryBlock);
  Window windowOf(mlir::Value queryBlock);
  mlir::Value listRow(const Coordinates &at) {
    return ProgramParts::listRow(at, argument(RowsOfBatch),
                                 argument(RowsOfHead));
  }

  // AttentionProducer.cpp
  void buildProducer();
  mlir::Value tileOf(mlir::Value number);
  Item itemOf(mlir::Value number);
  mlir::Value takeShare(mlir::Value tile, mlir::Value &entries);
  void splitSteps(Item &item);
  Values maskedRows(const Item &item, mlir::Value step);
  Values stateOf(const Item &item);
  Item itemOf(mlir::ValueRange state);
  Values firstRows(const Item &item);
  Values rowsOf(const Item &item, mlir::Value step);
  mlir::Value blockOf(const Item &item, mlir::Value entry);
  void sendHeader(mlir::Value number, const Item &item, mlir::Value first,
                  mlir::Value exists);
  void loadQueries(const Item &item, mlir::Value number);
  void load(mlir::Value map, mlir::Value ring, mlir::Value tile,
            mlir::ValueRange rows, mlir::Value number);
  void loadKeys(mlir::Value tile, mlir::ValueRange rows, mlir::Value number);

  // AttentionConsumers.cpp
  void buildConsumers();
  Header receive(mlir::Value number);
  Header headerOf(mlir::ValueRange words);
  Values stateOf(const Header &header);
  mlir::Value partOfQueries(mlir::Value number);
  mlir::Value takeQueries(mlir::Value number);
  mlir::Value beginScores(mlir::Value query, mlir::Value number);
  Values firstKeysOf(mlir::Value number);
  mlir::Value scored(mlir::Value scores, const Header &header,
                     mlir::ValueRange firstKeys);
  mlir::Value beginOutput(mlir::Value p, mlir::Value output,
                          mlir::Value number);
  Softmax firstSoftmax(mlir::Value scores, const Header &header,
                       mlir::Value bits);
  mlir::Value masked(mlir::Value scores, const Header &header,
                     mlir::Value firstKey);
  mlir::Value masked(mlir::Value scores, mlir::Value bits);
  mlir::Value firstKeyOf(const Header &header, mlir::Value step);
  mlir::Value firstPartial(const Header &header);
  Values bitsOf(const Header &header, mlir::Value partialList,
                mlir::Value step);
  mlir::Value loadBits(mlir::ValueRange numbers);
  mlir::scf::ForOp buildSteps(mlir::Value from, mlir::Value to,
                              mlir::ValueRange inits, mlir::Value query,
                              mlir::Value before, const Header &header,
                              bool isMasked, mlir::Value partialList = {});
  Softmax nextSoftmax(mlir::Value scores, const Softmax &old, bool mayBeEmpty,
                      mlir::Value &factor);
  mlir::Value exponentials(mlir::Value scores, mlir::Value shift);
  mlir::Value shiftOf(mlir::Value maximum, bool mayBeEmpty);
  void finish(mlir::Value output, const Softmax &state, const Header &header);
  mlir::Value isAny(mlir::Value sum);
  Softmax softmaxOf(mlir::ValueRange values) {
    return {values[0], values[1], values[2]};
  }

  // AttentionMerge.cpp, of split programs
  void storePart(mlir::Value output, mlir::Value lse, mlir::Value tile);
  void merge(mlir::Value tile);
  void mergeRows(mlir::Value firstRow, mlir::Value piece, mlir::Value limit);
  Values mergeParts(mlir::ValueRange sofar, mlir::ValueRange outputs,
                    mlir::ValueRange logSumExps);

  mlir::Value rowsWise(mlir::ValueRange inputs, Body body);
  mlir::Value argument(AttentionArgument at) {
    return program.getBody().getArgument(at);
  }

  const AttentionPlan &plan;
  mlir::Region &scoreFunction;
  ProgramOp program;
  FragmentType scoresType, outputType;
  RowsType rows, partialRows;
  OperandType queryType, probabilityType;
  // `places`, for a function of scores: of each step the first keys of its
  // blocks.
  mlir::Value scale, queryRing, keyRing, valueRing, headers, places, scratch;
  mlir::Value warpgroup;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_ATTENTIONBUILDER_H
