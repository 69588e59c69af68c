/* Arm MPS2 with FPGA image AN386, a Cortex-M4F: where the model lies, and how the program starts. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* The PSRAM, into which a loader has put the model. */
const uint8_t *model_place(size_t *bytes) {
    *bytes = 16u << 20;
    return (const uint8_t *)0x21000000;
}

/* From mps2-an386.ld. */
extern uint32_t stack_start, data_source, data_start, data_end, bss_start, bss_end;

int main(int arguments, char **argument);
/* Of newlib's librdimon: the debugger is standard output. */
void initialise_monitor_handles(void);

static void reset(void) {
    /* The FPU, whose registers hold more than floats. */
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm volatile("dsb\n isb");
    for (uint32_t *from = &data_source, *to = &data_start; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    initialise_monitor_handles();
    exit(main(0, NULL));
}

static void fault(void) {
    _Exit(101);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    &stack_start, reset, fault, fault, fault, fault, fault,
};
