/* Measures SLEEF's AVX-512 functions over 4,096 floats in cache: `peer-sleef --threads N CASE …`.
   Always runs on one thread, because the functions are not parallel. */

#ifndef __AVX512F__
#error "SLEEF's AVX-512 functions need a processor with AVX-512"
#endif

#include <immintrin.h>
#include <math.h>
#include <sleef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ELEMENTS = 4096, LANES = 16, REPETITIONS = 15 };

static float in[ELEMENTS] __attribute__((aligned(64)));
static float out[ELEMENTS] __attribute__((aligned(64)));

static __m512 sigmoid(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 e = Sleef_expf16_u10(_mm512_sub_ps(_mm512_setzero_ps(), x));
    return _mm512_div_ps(one, _mm512_add_ps(one, e));
}

static double sigmoid_exact(double x) { return 1.0 / (1.0 + exp(-x)); }

#define LOOP(name, function)                                                    \
    static void name(void) {                                                    \
        for (int i = 0; i < ELEMENTS; i += LANES)                               \
            _mm512_store_ps(out + i, function(_mm512_load_ps(in + i)));         \
    }

LOOP(run_exp, Sleef_expf16_u10)
LOOP(run_log1p, Sleef_log1pf16_u10)
LOOP(run_tanh_u10, Sleef_tanhf16_u10)
LOOP(run_tanh_u35, Sleef_tanhf16_u35)
LOOP(run_sigmoid, sigmoid)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double seconds(void (*run)(void), int calls) {
    const double start = now();
    for (int i = 0; i < calls; i++) {
        run();
        __asm__ volatile("" ::: "memory");
    }
    return now() - start;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *peer, const char *name, void (*run)(void), double (*exact)(double)) {
    run();
    for (int i = 0; i < ELEMENTS; i++) {
        const double e = exact(in[i]);
        if (!(fabs(out[i] - e) <= 4.5 * 0x1p-24 * fabs(e))) {
            fprintf(stderr, "%s(%a): found %a, expected %a\n", name, in[i], out[i], e);
            exit(1);
        }
    }
    int calls = 1;
    while (seconds(run, calls) < 0.03) calls *= 2;
    double times[REPETITIONS];
    for (int i = 0; i < REPETITIONS; i++) times[i] = seconds(run, calls) * 1e3 / calls;
    qsort(times, REPETITIONS, sizeof *times, ascending);
    printf("{\"peer\": \"%s\", \"version\": \"%d.%d.%d\", \"case\": \"math\", \"shape\": "
           "\"%s %d\", \"batch\": null, \"threads\": 1, \"milliseconds\": %.9g, \"median\": %.9g}\n",
           peer, SLEEF_VERSION_MAJOR, SLEEF_VERSION_MINOR, SLEEF_VERSION_PATCHLEVEL, name, ELEMENTS,
           times[0], times[REPETITIONS / 2]);
    fflush(stdout);
}

int main(int count, char **arguments) {
    int wanted = 0;
    for (int i = 3; i < count; i++) wanted |= !strcmp(arguments[i], "math");
    if (!wanted) return 0;
    /* Arguments of both signs, except for log1p, whose arguments must exceed -1. */
    for (int i = 0; i < ELEMENTS; i++) in[i] = -8.0f + 16.0f * (i + 0.5f) / ELEMENTS;
    measure("SLEEF", "exp", run_exp, exp);
    measure("SLEEF", "sigmoid", run_sigmoid, sigmoid_exact);
    measure("SLEEF", "tanh", run_tanh_u10, tanh);
    measure("SLEEF u35", "tanh", run_tanh_u35, tanh);
    for (int i = 0; i < ELEMENTS; i++) in[i] = 8.0f * (i + 0.5f) / ELEMENTS;
    measure("SLEEF", "log1p", run_log1p, log1p);
}
