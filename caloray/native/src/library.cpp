// What the library says about itself and about this processor.
#include "isa.h"

#ifdef CALORAY_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The hash of the sources it was built from; library.py compares.
CALORAY_EXPORT const char* caloray_digest() { return CALORAY_DIGEST; }

// The newest instruction set that is compiled in and that this processor and operating system can run.
CALORAY_EXPORT int32_t caloray_newest_isa() {
#ifdef CALORAY_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return ISA_AVX512;
    if (avx2) return ISA_AVX2;
#endif
    return ISA_BASELINE;
}

// Whether products in bfloat16 can be had: 0 if so (and from now on, for this process and its children), 1 if they
// are not compiled in, 2 if the processor has no AMX, 3 if the operating system does not permit its use.
CALORAY_EXPORT int32_t caloray_request_bf16() {
#ifdef CALORAY_AMX
    unsigned a = 0, b = 0, c = 0, d = 0;
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    if (caloray_newest_isa() < ISA_AVX512 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 2;
    if ((d & (bf16 | tile)) != (bf16 | tile)) return 2;
    const unsigned rounding = 1u << 5;   // AVX512_BF16; every processor with AMX so far has it
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & rounding)) return 2;
    const long request_permission = 0x1023, tile_data = 18;   // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0 ? 0 : 3;
#else
    return 1;
#endif
}
