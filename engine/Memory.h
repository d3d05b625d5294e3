//===- Memory.h - temporaries of kernels ------------------------*- C++ -*-===//

#ifndef GOSSAMER_ENGINE_MEMORY_H
#define GOSSAMER_ENGINE_MEMORY_H

#include <cstddef>

namespace gossamer {

/// What kernels call by the names of aligned_alloc and free, under which LLVM
/// knows that nothing else points there. Alignment is 64 bytes, whatever they
/// ask for.
void *allocateTemporary(size_t alignment, size_t size);
void freeTemporary(void *memory);

} // namespace gossamer

#endif // GOSSAMER_ENGINE_MEMORY_H
