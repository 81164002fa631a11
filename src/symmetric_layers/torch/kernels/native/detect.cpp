// Which of the instruction sets that the kernel was compiled for this processor has.

#include "pools.h"
#include "task.h"
#include <string.h>

extern "C" __attribute__((visibility("default"))) int symmetric_can(const char *set) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(set, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(set, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    return !strcmp(set, "baseline");
}

// How large tasks are here: what was compiled from other sources must not be called.
extern "C" __attribute__((visibility("default"))) int64_t symmetric_task_size() { return sizeof(Task); }
extern "C" __attribute__((visibility("default"))) int64_t symmetric_pool_size() { return sizeof(Pool); }
