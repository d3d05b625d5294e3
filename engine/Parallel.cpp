//===- Parallel.cpp - kernels run on the threads that torch has
//------------===//
//
// A second thread pool beside torch's would fight it for the cores, so the one
// that torch is linked with is used: GOMP_parallel, which libgomp, libomp and
// libiomp all export, costs 1 to 2 us and honours torch.set_num_threads.
//
//===----------------------------------------------------------------------===//

#include "engine/include/gossamer-c.h"

#include <algorithm>
#include <atomic>
#include <dlfcn.h>

namespace {

struct OpenMP {
  void (*parallel)(void (*body)(void *), void *data, unsigned threads,
                   unsigned flags);
  int (*threadCount)();
  int (*maxThreads)();
  int (*inParallel)();
};

/// Kernels call gs_parallel_for with no handle of ours, so this is the
/// process's. Set once and never freed: a kernel on another thread may be using
/// the one before.
std::atomic<const OpenMP *> current = nullptr;

template <typename Function>
bool find(void *library, const char *name, Function *&function) {
  function = reinterpret_cast<Function *>(dlsym(library, name));
  return function != nullptr;
}

/// Pieces for each thread: a thread that is held up leaves its rest to others.
constexpr int64_t kPiecesPerThread = 8;

struct Work {
  const OpenMP *openmp;
  int64_t lo, hi, grain;
  void (*body)(void *, int64_t, int64_t);
  void *context;
  std::atomic<int64_t> next = 0;
};

/// What one thread does: the next piece, of whole grains, until there is none.
void runPieces(void *data) {
  Work &work = *static_cast<Work *>(data);
  int64_t grains = (work.hi - work.lo + work.grain - 1) / work.grain;
  int64_t pieces =
      std::min(grains, work.openmp->threadCount() * kPiecesPerThread);
  while (true) {
    int64_t piece = work.next.fetch_add(1, std::memory_order_relaxed);
    if (piece >= pieces)
      return;
    int64_t first = grains * piece / pieces,
            last = grains * (piece + 1) / pieces;
    work.body(work.context, work.lo + first * work.grain,
              std::min(work.hi, work.lo + last * work.grain));
  }
}

} // namespace

int gs_set_openmp(const char *path) {
  if (!path) {
    current.store(nullptr);
    return GS_OK;
  }
  // The handle is kept: the functions must stay.
  void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (!library)
    return GS_ERROR;
  auto *openmp = new OpenMP();
  if (!find(library, "GOMP_parallel", openmp->parallel) ||
      !find(library, "omp_get_num_threads", openmp->threadCount) ||
      !find(library, "omp_get_max_threads", openmp->maxThreads) ||
      !find(library, "omp_in_parallel", openmp->inParallel)) {
    delete openmp;
    dlclose(library);
    return GS_ERROR;
  }
  current.store(openmp);
  return GS_OK;
}

void gs_parallel_for(int64_t lo, int64_t hi, int64_t grain,
                     void (*body)(void *, int64_t, int64_t), void *context) {
  if (lo >= hi)
    return;
  grain = std::max<int64_t>(grain, 1);
  int64_t grains = (hi - lo - 1) / grain + 1;
  const OpenMP *openmp = current.load();
  if (!openmp || grains == 1 || openmp->inParallel()) {
    body(context, lo, hi);
    return;
  }
  int64_t threads = std::min<int64_t>(grains, openmp->maxThreads());
  if (threads <= 1) {
    body(context, lo, hi);
    return;
  }
  Work work{openmp, lo, hi, grain, body, context};
  openmp->parallel(runPieces, &work, static_cast<unsigned>(threads),
                   /*flags=*/0);
}
