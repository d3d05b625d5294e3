//===- RaiseSample.h - computing at stored positions only -------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_RAISESAMPLE_H
#define GOSSAMER_PASSES_RAISESAMPLE_H

#include "dialect/gossamer/Gossamer.h"

namespace gossamer {

/// Folds a sample into what makes its source, and so the samples that this
/// asks for.
void raiseSample(SampleOp op);

} // namespace gossamer

#endif // GOSSAMER_PASSES_RAISESAMPLE_H
