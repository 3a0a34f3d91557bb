/* Trains a model on synthetic images of 8 x 8 pixels, saves and loads it, and answers one row at a time: encode,
 * reconstruct, score, sample.
 *
 *   cc bars.c $(pkg-config --cflags --libs elbo) -o bars && ./bars
 */
#include <elbo.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, FEATURES = SIDE * SIDE, LATENT = 4, ROWS = 2000 };

/* Ends the program with the library's message. */
static void check(elbo_status status)
{
    if (status != ELBO_OK) {
        fprintf(stderr, "%s: %s\n", elbo_status_name(status), elbo_last_error_message());
        exit(EXIT_FAILURE);
    }
}

/* Fills an image with a bar: horizontal or vertical, at one of eight places. The library calls it from several
 * threads at a time. */
static int32_t read_row(void *context, size_t row, float *out, size_t columns)
{
    const size_t place = row % SIDE, is_vertical = row / SIDE % 2;
    (void)context;
    for (size_t i = 0; i < columns; i++) {
        const size_t at = is_vertical ? i % SIDE : i / SIDE;
        out[i] = at == place ? 1.0f : 0.0f;
    }
    return 0;
}

/* Reports each hundredth step. */
static int32_t on_step(void *context, const elbo_step *step)
{
    int *seen = context;
    *seen += 1;
    if (step->step % 100 == 0) {
        printf("step %4llu  loss %.3f\n", (unsigned long long)step->step, step->loss);
    }
    return 0;
}

int main(int count, char **arguments)
{
    const char *path = count > 1 ? arguments[1] : "bars.safetensors";
    const size_t hidden[] = {32};

    /* Threads, and a model with one hidden layer on each side. */
    elbo_compute *compute;
    check(elbo_compute_new(&compute, 2));
    elbo_config config;
    check(elbo_config_init(&config, FEATURES, LATENT));
    config.encoder = hidden;
    config.encoder_layers = 1;
    elbo_model *model;
    check(elbo_model_new(&model, &config, 1));

    /* Training on rows that a function fills. */
    elbo_train_options options;
    check(elbo_train_options_init(&options));
    options.batch = 50;
    options.optimizer.learning_rate = 3e-3;
    elbo_trainer *trainer;
    check(elbo_trainer_new(&trainer, model, compute, &options));
    elbo_model_free(model);
    const elbo_dataset data = {ROWS, read_row, NULL, NULL};
    elbo_epoch epoch;
    int steps = 0;
    for (int i = 0; i < 15; i++) {
        check(elbo_trainer_epoch(trainer, &epoch, &data, on_step, &steps));
    }
    printf("%d steps, loss %.3f = %.3f + %.3f nats\n", steps, epoch.loss, epoch.reconstruction, epoch.kl);
    check(elbo_trainer_model(trainer, &model));
    check(elbo_model_save(model, path));
    elbo_model_free(model);
    elbo_trainer_free(trainer);

    /* Inference in this program's memory: from here on, nothing is allocated. */
    check(elbo_model_load(&model, path));
    elbo_inference *inference;
    check(elbo_inference_new(&inference, model, compute));
    float x[2][FEATURES], seen[FEATURES], mu[LATENT], logvar[LATENT];
    double reconstruction[2], kl[2];
    read_row(NULL, 11, x[0], FEATURES);
    /* The second row is noise. */
    for (int i = 0; i < FEATURES; i++) {
        x[1][i] = i * 7 % 5 < 2 ? 1.0f : 0.0f;
    }
    check(elbo_encode(inference, mu, LATENT, logvar, LATENT, x[0], FEATURES, NULL, 0, 1));
    check(elbo_reconstruct(inference, seen, FEATURES, x[0], FEATURES, NULL, 0, 1));
    check(elbo_score(inference, reconstruction, kl, x[0], FEATURES, NULL, 0, 2));
    printf("code %.2f %.2f %.2f %.2f\n", mu[0], mu[1], mu[2], mu[3]);
    printf("scores: a bar %.1f, noise %.1f nats\n", reconstruction[0] + kl[0], reconstruction[1] + kl[1]);
    for (int i = 0; i < FEATURES; i++) {
        printf("%c%c%s", x[0][i] > 0.5f ? '#' : '.', seen[i] > 0.5f ? '#' : '.', (i + 1) % SIDE ? " " : "\n");
    }
    float samples[3][FEATURES];
    check(elbo_sample(inference, samples[0], FEATURES, NULL, 0, 3, 1, 0));

    /* An error: the stride is less than a row. */
    if (elbo_encode(inference, mu, LATENT, logvar, LATENT, x[0], 3, NULL, 0, 1) != ELBO_STRIDE) {
        return EXIT_FAILURE;
    }
    printf("%s\n", elbo_last_error_message());

    elbo_inference_free(inference);
    elbo_model_free(model);
    elbo_compute_free(compute);
    remove(path);

    /* The trained model tells bars from noise, and draws what it has seen. */
    int wrong = 0;
    for (int i = 0; i < FEATURES; i++) {
        wrong += (x[0][i] > 0.5f) != (seen[i] > 0.5f);
    }
    const int is_good = wrong == 0 && reconstruction[0] + kl[0] + 20.0 < reconstruction[1] + kl[1];
    return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
