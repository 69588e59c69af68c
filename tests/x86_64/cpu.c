/* Loaded before the emulator, whose functions these replace: it makes a Sapphire Rapids, which has both AVX-512 VNNI and AVX-VNNI, and not
 * the CPU that it would choose; and it runs with a C library older than the one that it was built for. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* create_corei3_cnl_cpuid(BX_CPU_C *) */
void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu) {
    Dl_info caller;
    if (!dladdr(__builtin_return_address(0), &caller))
        abort();
    void *emulator = dlopen(caller.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    void *(*create)(void *) = (void *(*)(void *))dlsym(emulator, "_Z28create_sapphire_rapids_cpuidP8BX_CPU_C");
    if (!create)
        abort();
    return create(cpu);
}

unsigned long __isoc23_strtoul(const char *text, char **end, int base) {
    return strtoul(text, end, base);
}

unsigned long long __isoc23_strtoull(const char *text, char **end, int base) {
    return strtoull(text, end, base);
}

int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int result = vsscanf(text, format, arguments);
    va_end(arguments);
    return result;
}
