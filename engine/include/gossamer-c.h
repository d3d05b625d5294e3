/*===- gossamer-c.h - the C API of libgossamer ----------------------------===*\
|*                                                                            *|
|* Everything that crosses the library's border: plain C types, UTF-8 text,   *|
|* JSON where a structure is needed. Any number of threads may call at once.  *|
|* No function takes the process down: what LLVM would answer by abort, or by *|
|* a crash, comes back as GS_CRASHED.                                         *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef GOSSAMER_C_H
#define GOSSAMER_C_H

#include <stddef.h>
#include <stdint.h>

#define GS_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* What gs_compile, gs_emit and gs_load return. */
enum {
  GS_OK = 0,
  GS_ERROR = 1,  /* refused, with diagnostics in gs_artifact_error */
  GS_CRASHED = 2 /* the compiler crashed and was recovered; so does
                    gs_artifact_error say how */
};

/* What a compile produced. Freed by its owner with gs_artifact_free; every
 * pointer taken from it dies with it. */
typedef struct gs_artifact gs_artifact;

/* A compiled entry: one packed array of pointers and sizes, in the order of the
 * signature. */
typedef void (*gs_entry)(int64_t *packed);

/* Compiles one region of MLIR text to a relocatable object. options_json:
   {"cpu": "znver4", "features": "+avx2,..."}; NULL or an absent key means the
   host's. With "chip": "sm_90a" it runs on an NVIDIA GPU of that kind, and the
   object holds what launches its kernels. *out is always set, whatever is
   returned. */
GS_API int gs_compile(const char *mlir, size_t len, const char *options_json,
                      gs_artifact **out);

/* Runs the same pipeline up to options_json's "stage" ("raise", "lower", "llvm"
 * or "asm") and keeps its text. */
GS_API int gs_emit(const char *mlir, size_t len, const char *options_json,
                   gs_artifact **out);

GS_API const char *
gs_artifact_error(gs_artifact *artifact); /* "" if there was none */
GS_API const char *gs_artifact_signature(
    gs_artifact *artifact); /* JSON; "" unless gs_compile succeeded */
GS_API const char *gs_artifact_text(gs_artifact *artifact); /* of gs_emit */
GS_API const void *gs_artifact_object(gs_artifact *artifact, size_t *len);
/* PTX of the kernels, named kernel_0, kernel_1, ...; "" if it has none. */
GS_API const char *gs_artifact_kernels(gs_artifact *artifact);
GS_API void gs_artifact_free(gs_artifact *artifact);

/* Links an object into the process and finds its entry. On failure *error is a
 * text to free with gs_free_text. */
GS_API int gs_load(const void *object, size_t len, const char *entry,
                   void **kernel, gs_entry *fn, char **error);
GS_API void gs_unload(void *kernel);
GS_API void gs_free_text(char *text);

/* Takes the OpenMP runtime that the loaded library at `path` is linked with
   (torch's), so that kernels run on the same threads. Nothing is loaded:
   GS_ERROR if that library is not in the process or reaches no OpenMP. NULL:
   run serially. */
GS_API int gs_set_openmp(const char *path);

/* body(ctx, lo, hi) over disjoint, covering parts of [lo, hi), none but the
 * last shorter than grain. Kernels call it. */
GS_API void gs_parallel_for(int64_t lo, int64_t hi, int64_t grain,
                            void (*body)(void *ctx, int64_t lo, int64_t hi),
                            void *ctx);

/* --- NVIDIA GPUs: through the driver, libcuda.so.1, which is opened when it is
   first needed. Devices are counted as the driver counts them. Functions that
   return int give GS_OK, or GS_ERROR with a text in *error to free with
   gs_free_text. */

/* What a device is: compute capability as 90 for 9.0, and the driver's CUDA
   version as 13000 for 13.0. */
GS_API int gs_cuda_device(int device, int *capability, int *driver,
                          char **error);

/* The driver makes machine code of PTX; *cubin is to free with gs_free_text,
   and so is *log, the assembler's account of registers and spills. */
GS_API int gs_cuda_assemble(const char *ptx, int device, char **cubin,
                            size_t *len, char **log, char **error);

/* Loads machine code with `kernels` kernels into the primary context of a
   device, which is the one that torch uses. */
GS_API int gs_cuda_load(const void *cubin, int kernels, int device,
                        void **module, char **error);
GS_API void gs_cuda_unload(void *module);

/* Runs an entry, whose kernels are launched on `stream`. Returns 0, and nothing
   waits for them; or, above 0, how many bytes of memory on the device it needs
   as workspace, where `capacity` was too little, and nothing has run; or -1:
   *error says which kernel failed, and why. */
GS_API int64_t gs_cuda_run(void *module, gs_entry entry, int64_t *packed,
                           void *stream, void *workspace, int64_t capacity,
                           char **error);

/* Waits until a kernel on `stream` has written a number that is not negative
   to `word`, in memory of the host that the device can write to, and returns
   it: kernels behind that one may still be running. Or -1: *error says what
   went wrong on the stream. */
GS_API int64_t gs_cuda_wait(void *module, void *stream, const int64_t *word,
                            char **error);

/* What compiled entries call: a launch of blocks x threads with `count` words
   as arguments, and the address of a workspace. With `order` 1, the kernel says
   itself when the next one may begin; with 2, it may begin as soon as one
   before it, of order 1 and in the same call, says so. */
GS_API void gs_gpu_launch(int64_t kernel, int64_t blocks, int64_t threads,
                          int64_t order, int64_t *words, int64_t count);
GS_API void *gs_gpu_workspace(int64_t bytes);

/* What entries of tile programs call. A tensor map (128 bytes, aligned to 64)
   of 16-bit floats from four sizes and three strides in elements, outermost
   first, columns side by side, of which boxes of rows x 64 columns are moved,
   and the same where the hardware has no such maps; the number of
   multiprocessors; and a launch with addresses of arguments. */
GS_API void gs_gpu_tensor_map(void *map, void *address, int64_t is_bfloat16,
                              const int64_t *sizes, const int64_t *strides,
                              int64_t rows);
GS_API void gs_gpu_tile_map(void *map, void *address, const int64_t *sizes,
                            const int64_t *strides);
GS_API int64_t gs_gpu_processors(void);
GS_API void gs_gpu_launch_program(int64_t kernel, int64_t blocks,
                                  int64_t threads, int64_t shared_bytes,
                                  void **arguments);

/* --- Tile programs on the processor: a thread for each warpgroup of a thread
   block. */

/* Runs an entry that launches such programs, and waits for them. GS_ERROR if
   one cannot go on: *error, to free with gs_free_text, says where and why. */
GS_API int gs_tile_run(gs_entry entry, int64_t *packed, char **error);

/* What entries of tile programs call. A tensor of four sizes and three strides
   in elements, outermost first, columns side by side; how many thread blocks
   run at once; and a launch with addresses of arguments. `text` has lines: the
   name of the program, and of its rings in their order. `words` are:
   warpgroups; a bit for each that consumes; bytes that its thread blocks share;
   bytes for each warpgroup; rings; and for each ring where it begins in what is
   shared, the bytes of a stage, and stages. */
typedef struct gs_tile_warpgroup gs_tile_warpgroup;
typedef void (*gs_tile_program)(gs_tile_warpgroup *self, void **arguments,
                                void *shared, void *scratch, int32_t block,
                                int32_t blocks, int32_t warpgroup);
GS_API void gs_tile_map(void *map, void *address, int64_t element_bytes,
                        const int64_t *sizes, const int64_t *strides);
GS_API int64_t gs_tile_resident(void);
GS_API void gs_tile_launch(gs_tile_program program, const char *text,
                           const int64_t *words, int64_t blocks,
                           void **arguments);

/* What programs call. Of tile `number` of a ring: a producer acquires its
   stage, fills it, and publishes it; consumers await it, and release it. */
GS_API void *gs_tile_acquire(gs_tile_warpgroup *self, int64_t ring,
                             int32_t number);
GS_API void gs_tile_publish(gs_tile_warpgroup *self, int64_t ring,
                            int32_t number);
GS_API void *gs_tile_await(gs_tile_warpgroup *self, int64_t ring,
                           int32_t number);
GS_API void gs_tile_release(gs_tile_warpgroup *self, int64_t ring,
                            int32_t number);
/* Of two warpgroups; each says its number, 0 or 1. */
GS_API void gs_tile_take_turn(gs_tile_warpgroup *self, int32_t number);
GS_API void gs_tile_pass_turn(gs_tile_warpgroup *self, int32_t number);
/* A box of a tensor to or from rows x columns elements. What of it is not in
   the tensor is read as 0, and is not written. */
GS_API void gs_tile_load(void *to, const void *map, int32_t batch, int32_t head,
                         int32_t row, int32_t column, int64_t rows,
                         int64_t columns);
GS_API void gs_tile_store(const void *from, const void *map, int32_t batch,
                          int32_t head, int32_t row, int32_t column,
                          int64_t rows, int64_t columns);

GS_API const char *gs_host_cpu(void); /* as LLVM names it */
GS_API const char *
gs_host_features(void); /* "+avx,+avx2,-avx512f,...", sorted */
GS_API const char *gs_version(
    void); /* "0.1.0 llvm-22.1.8 <build id>": another build, another text */

#ifdef __cplusplus
}
#endif

#endif /* GOSSAMER_C_H */
