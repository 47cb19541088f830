// One source, several instruction sets.
//
// Every file kernel_*.cpp is compiled once per instruction set, with all its symbols in a namespace of that
// name (CALORAY_ISA) and its entry points renamed by CALORAY_NAMED. All other files are compiled once, for the
// oldest processor, and choose an entry point with CALORAY_SELECT. Kernel files and the headers they include
// use no C++ standard header: an inline function compiled for two instruction sets under one name would let
// the linker keep the wrong one.
#pragma once
#include <stdint.h>

#define CALORAY_JOIN_(a, b) a##_##b
#define CALORAY_JOIN(a, b) CALORAY_JOIN_(a, b)

// The name of an entry point in this compilation of a kernel file: made_inverse -> made_inverse_avx2.
#define CALORAY_NAMED(name) CALORAY_JOIN(name, CALORAY_ISA)

#define CALORAY_EXPORT extern "C" __attribute__((visibility("default")))

// Numbers of the instruction sets, as library.py passes them; build.py sets CALORAY_X86 where it compiles all.
enum Isa : int32_t { ISA_BASELINE = 0, ISA_AVX2 = 1, ISA_AVX512 = 2 };

// CALORAY_DECLARE(int32_t, f, (int32_t a)) declares f_baseline, f_avx2, ...; CALORAY_SELECT(f, isa) picks one.
#ifdef CALORAY_X86
#define CALORAY_DECLARE(type, name, arguments)  \
    extern "C" type name##_baseline arguments; \
    extern "C" type name##_avx2 arguments;     \
    extern "C" type name##_avx512 arguments;
#define CALORAY_SELECT(name, isa) \
    ((isa) == ISA_AVX512 ? name##_avx512 : (isa) == ISA_AVX2 ? name##_avx2 : name##_baseline)
#else
#define CALORAY_DECLARE(type, name, arguments) extern "C" type name##_baseline arguments;
#define CALORAY_SELECT(name, isa) (name##_baseline)
#endif
