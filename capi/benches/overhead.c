/* Time of one call from C, as benches/overhead.rs measures it from Rust. */
#define _POSIX_C_SOURCE 199309L
#include <elbo.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 15, CALLS = 400 };

static void check(elbo_status status)
{
    if (status != ELBO_OK) {
        fprintf(stderr, "%s\n", elbo_last_error_message());
        exit(EXIT_FAILURE);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Prints the least of the medians of the rounds. */
#define TIME(call, ...)                                                                                              \
    do {                                                                                                             \
        double best = 1e30, times[CALLS];                                                                            \
        for (int round = 0; round < ROUNDS; round++) {                                                               \
            for (int i = 0; i < CALLS; i++) {                                                                        \
                const double start = now();                                                                          \
                check(call);                                                                                         \
                times[i] = now() - start;                                                                            \
            }                                                                                                        \
            qsort(times, CALLS, sizeof *times, compare);                                                             \
            best = times[CALLS / 2] < best ? times[CALLS / 2] : best;                                                \
        }                                                                                                            \
        char name[64];                                                                                               \
        snprintf(name, sizeof name, __VA_ARGS__);                                                                    \
        printf("%-28s %10.0f\n", name, best);                                                                        \
    } while (0)

static float *spread(size_t rows, size_t columns)
{
    float *numbers = malloc(rows * columns * sizeof *numbers);
    for (size_t i = 0; i < rows * columns; i++) {
        numbers[i] = (float)((i / columns * 37 + i % columns * 11) % 17) / 16.0f;
    }
    return numbers;
}

int main(void)
{
    elbo_compute *compute;
    check(elbo_compute_new(&compute, 1));
    const size_t models[][3] = {{30, 64, 8}, {784, 400, 20}};
    for (size_t m = 0; m < 2; m++) {
        const size_t d = models[m][0], z = models[m][2];
        elbo_config config;
        check(elbo_config_init(&config, d, z));
        config.encoder = &models[m][1];
        config.encoder_layers = 1;
        elbo_model *model;
        elbo_inference *inference;
        check(elbo_model_new(&model, &config, 1));
        check(elbo_inference_new(&inference, model, compute));
        float *x = spread(1, d), *out = spread(1, d), *mu = spread(1, z), *logvar = spread(1, z);
        for (size_t i = 0; i < d; i++) {
            x[i] = i % 3 == 0;
        }
        TIME(elbo_encode(inference, mu, z, logvar, z, x, d, NULL, 0, 1), "encode 1x%zu", d);
        TIME(elbo_reconstruct(inference, out, d, x, d, NULL, 0, 1), "reconstruct 1x%zu", d);
        free(x);
        free(out);
        free(mu);
        free(logvar);
        elbo_inference_free(inference);
        elbo_model_free(model);
    }
    const elbo_reconstruction term = {.kind = ELBO_BERNOULLI};
    const elbo_penalty penalty = {.kind = ELBO_KL, .prior_std = 1};
    const size_t batches[] = {1, 128}, d = 784, z = 20;
    for (size_t b = 0; b < 2; b++) {
        const size_t rows = batches[b];
        float *outputs = spread(rows, d), *targets = spread(rows, d), *doutputs = spread(rows, d);
        float *mu = spread(rows, z), *logvar = spread(rows, z), *dmu = spread(rows, z), *dlogvar = spread(rows, z);
        elbo_value value;
        TIME(elbo_objective_forward_backward(compute, &term, &penalty, 1, &value, doutputs, d, dmu, z, dlogvar, z,
                                             outputs, d, targets, d, mu, z, logvar, z, rows, d, z, ELBO_BATCH_MEAN),
             "objective %zux%zu", rows, d);
        free(outputs);
        free(targets);
        free(doutputs);
        free(mu);
        free(logvar);
        free(dmu);
        free(dlogvar);
    }
    elbo_compute_free(compute);
    return 0;
}
