// elbo.h: C interface of elbo, hand-written SIMD kernels for MLP variational autoencoders.
//
// Written by cbindgen from capi/src; change it there, then run `.ci/capi --header`.
//
// Arrays
//   An array [rows, columns] is the address of its first number and a stride, the elements from a row to the next:
//   element (i, j) is `array[i * array_stride + j]`. Rows that follow one another have a stride of `columns`; columns of
//   a wider array have that array's. Nothing of the caller is copied, except where a function says so. An array without
//   elements may be null.
//
// Errors
//   A function returns ELBO_OK (0) or another elbo_status; elbo_last_error_message() says what is wrong, where, and what
//   to do. Pointers that are null or misaligned, strides below the columns, sizes beyond the address space, settings
//   outside their domains and outputs that overlap other arguments are errors. What a function cannot know is the
//   caller's to keep: that a pointer has the memory that sizes and strides say, that a handle has not been freed, and that
//   no other thread writes to the arrays of a call.
//
// Handles
//   elbo_compute, elbo_model, elbo_inference, elbo_trainer and elbo_panels are made by functions that write their
//   address to the first argument (a null pointer on an error), and end with the function in _free, in any order. There
//   is no global state, apart from the message of each thread's last error, and no other thread than those of
//   elbo_compute.
//
// Numbers
//   float is IEEE binary32. Losses are in nats, and of type double. Results do not depend on the number of threads
//   or the instruction set, down to the last bit. A call computes in the default floating-point environment, whatever
//   that of the caller, and leaves the caller's as it was.
//
// Options by number
//   A member or argument of type int32_t that is "one of" an enum takes its constants; other numbers are errors.


#ifndef ELBO_H
#define ELBO_H

#include <stddef.h>
#include <stdint.h>

// Result of a function: `ELBO_OK`, which is 0, or the kind of the error. `elbo_last_error_message` has the
// details.
typedef enum {
    // No error.
    ELBO_OK = 0,
    // A pointer is null where the function reads or writes.
    ELBO_NULL = 1,
    // A pointer is not a multiple of the size of what it points to.
    ELBO_MISALIGNED = 2,
    // A row stride is less than the number of columns.
    ELBO_STRIDE = 3,
    // Memory that is written overlaps other memory of the same call.
    ELBO_OVERLAP = 4,
    // A number of rows or columns does not fit the model, the other arguments, or the address space.
    ELBO_SIZE = 5,
    // A setting is outside its domain or does not go with the others.
    ELBO_OPTION = 6,
    // A value of the data is one that the loss does not accept.
    ELBO_DATA = 7,
    // A loss, a gradient or an update is NaN or infinite.
    ELBO_NOT_FINITE = 8,
    // The machine does not have the memory.
    ELBO_MEMORY = 9,
    // The system refuses the threads.
    ELBO_THREADS = 10,
    // A file cannot be read or written.
    ELBO_IO = 11,
    // A file is damaged or not a model file.
    ELBO_MODEL_FILE = 12,
    // A function of the caller reported a failure.
    ELBO_CALLBACK = 13,
    // Another thread, or a callback, is using the handle.
    ELBO_BUSY = 14,
    // An update of the weights was interrupted, and the trainer cannot go on.
    ELBO_INTERRUPTED = 15,
    // A fault of this library. Please report it.
    ELBO_INTERNAL = 16,
} elbo_status;

// Activation of the hidden layers.
typedef enum {
    // max(x, 0).
    ELBO_RELU = 0,
    // x, or `activation_parameter` * x below 0.
    ELBO_LEAKY_RELU = 1,
    // x, or `activation_parameter` * (exp(x) - 1) below 0.
    ELBO_ELU = 2,
    // x Phi(x), with the normal distribution function.
    ELBO_GELU = 3,
    // The approximation of the same by a hyperbolic tangent.
    ELBO_GELU_TANH = 4,
    // x sigmoid(x), also called swish.
    ELBO_SILU = 5,
    // ln(1 + exp(x)).
    ELBO_SOFTPLUS = 6,
    // tanh(x).
    ELBO_TANH = 7,
    // 1 / (1 + exp(-x)).
    ELBO_SIGMOID = 8,
} elbo_activation;

// Course of the weight beta during training.
typedef enum {
    // beta from the first step on.
    ELBO_ANNEALING_CONSTANT = 0,
    // From `annealing_from` to beta in a straight line.
    ELBO_ANNEALING_LINEAR = 1,
    // The same along half a period of the cosine.
    ELBO_ANNEALING_COSINE = 2,
    // From 0 to beta in each of `annealing_cycles` cycles, over the fraction `annealing_ratio` of a cycle.
    ELBO_ANNEALING_CYCLICAL = 3,
} elbo_annealing;

// Augmentation of the data, drawn anew each time a row is seen.
typedef enum {
    // None.
    ELBO_AUGMENTATION_NONE = 0,
    // Each value becomes 1 with its own probability, otherwise 0.
    ELBO_AUGMENTATION_BINARIZE = 1,
    // Each of `augmentation_levels` gray levels is spread evenly over its part of [0, 1).
    ELBO_AUGMENTATION_DEQUANTIZE = 2,
} elbo_augmentation;

// Clipping of the gradient.
typedef enum {
    // None.
    ELBO_CLIP_NONE = 0,
    // `clip_limit` is the largest magnitude of a weight's gradient.
    ELBO_CLIP_VALUE = 1,
    // `clip_limit` is the largest norm of all gradients together.
    ELBO_CLIP_NORM = 2,
} elbo_clip;

// Decay of the learning rate.
typedef enum {
    // None.
    ELBO_DECAY_CONSTANT = 0,
    // Multiplication by `decay_factor` every `decay_epochs` epochs.
    ELBO_DECAY_STEP = 1,
    // Half a period of the cosine over `decay_over`, from 1 to `decay_floor`.
    ELBO_DECAY_COSINE = 2,
    // Multiplication by `decay_factor` once the loss of `elbo_trainer_observe` has not fallen for more than
    // `decay_epochs` epochs.
    ELBO_DECAY_PLATEAU = 3,
} elbo_decay;

// Estimator of the encoder's gradient with importance weighting.
typedef enum {
    // The gradient of the bound itself (Burda et al. 2016).
    ELBO_IWAE = 0,
    // Doubly reparameterized (Tucker et al. 2019): the same mean, less noise.
    ELBO_DREG = 1,
} elbo_estimator;

// Likelihood: the meaning of the decoder's outputs. The terms are those of elbo_reconstruction_kind.
typedef enum {
    // ELBO_BERNOULLI of logits. Data in [0, 1].
    ELBO_LIKELIHOOD_BERNOULLI = 0,
    // ELBO_WEIGHTED_BERNOULLI with `likelihood_parameter` for its weight. Data in [0, 1].
    ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI = 1,
    // ELBO_SIGMOID_PROBABILITIES. Data in [0, 1].
    ELBO_LIKELIHOOD_BERNOULLI_PROBABILITIES = 2,
    // ELBO_CONTINUOUS_BERNOULLI. Data in [0, 1].
    ELBO_LIKELIHOOD_CONTINUOUS_BERNOULLI = 3,
    // ELBO_SQUARED_ERROR. Finite data.
    ELBO_LIKELIHOOD_SQUARED_ERROR = 4,
    // ELBO_TANH_SQUARED_ERROR. Data in [-1, 1].
    ELBO_LIKELIHOOD_TANH_SQUARED_ERROR = 5,
    // Gaussian with the variance `likelihood_parameter`. Finite data.
    ELBO_LIKELIHOOD_GAUSSIAN = 6,
    // Gaussian with one learned variance.
    ELBO_LIKELIHOOD_GAUSSIAN_LEARNED = 7,
    // Gaussian with a learned variance of each feature.
    ELBO_LIKELIHOOD_GAUSSIAN_PER_FEATURE = 8,
    // Gaussian with the variance that maximizes the likelihood of the batch. Rows cannot be scored.
    ELBO_LIKELIHOOD_GAUSSIAN_OPTIMAL = 9,
} elbo_likelihood;

// Rule by which weights follow their gradients, with the arithmetic of torch.optim.
typedef enum {
    // Adam; weight decay is added to the gradient.
    ELBO_ADAM = 0,
    // Adam with decoupled weight decay.
    ELBO_ADAMW = 1,
    // Stochastic gradient descent, with or without momentum.
    ELBO_SGD = 2,
    // Adam with the maximum norm in place of the second moment.
    ELBO_ADAMAX = 3,
} elbo_optimizer_kind;

// Penalty on the posterior N(mu, exp(logvar)) of each example, by its kind.
typedef enum {
    // The KL divergence from the prior.
    ELBO_KL = 0,
    // max(lambda, KL), of each element, dimension or example (`per`).
    ELBO_FREE_BITS = 1,
    // gamma |KL - nats|, of each example or of the mean over the batch (`per`).
    ELBO_CAPACITY = 2,
    // Total correlation (beta-TCVAE). In training; alone it is `elbo_total_correlation_forward_backward`.
    ELBO_TOTAL_CORRELATION = 3,
    // The importance-weighted bound. In training only.
    ELBO_IMPORTANCE = 4,
} elbo_penalty_kind;

// The divergence to which free bits or a capacity apply.
typedef enum {
    // Each latent dimension of each example. Free bits only.
    ELBO_PER_ELEMENT = 0,
    // The mean over the batch of each latent dimension. Free bits only.
    ELBO_PER_DIMENSION = 1,
    // The sum over latent dimensions of each example.
    ELBO_PER_SAMPLE = 2,
    // The mean over the batch of that sum. Capacity only.
    ELBO_PER_BATCH = 3,
} elbo_per;

// Loss of the decoder's outputs l, given the data t, by its kind.
typedef enum {
    // max(l, 0) - l t + ln(1 + exp(-|l|)): binary cross-entropy of logits. Data in [0, 1].
    ELBO_BERNOULLI = 0,
    // The same, ones weighing `pos_weight` times as much as zeros. Data in [0, 1].
    ELBO_WEIGHTED_BERNOULLI = 1,
    // Binary cross-entropy of probabilities, with the clamps of torch.nn.BCELoss. Data in [0, 1].
    ELBO_BERNOULLI_PROBABILITIES = 2,
    // The same of sigmoid(l), with gradients for l.
    ELBO_SIGMOID_PROBABILITIES = 3,
    // -l t + ln((exp(l) - 1) / l): continuous Bernoulli of logits. Data in [0, 1].
    ELBO_CONTINUOUS_BERNOULLI = 4,
    // (l - t)^2. Finite data.
    ELBO_SQUARED_ERROR = 5,
    // (tanh(l) - t)^2. Data in [-1, 1].
    ELBO_TANH_SQUARED_ERROR = 6,
    // ((l - t)^2 exp(-s) + s + ln(2 pi)) / 2 with the log-variance s = `logvar`. Finite data.
    ELBO_GAUSSIAN = 7,
    // The same with a log-variance for each feature: `logvars`.
    ELBO_GAUSSIAN_PER_FEATURE = 8,
    // The same with the variance that maximizes the likelihood of the batch: its mean squared error.
    ELBO_GAUSSIAN_OPTIMAL = 9,
} elbo_reconstruction_kind;

// Reduction of a loss over a batch of `rows` to one number.
typedef enum {
    // Sum over columns, mean over rows: nats per example. The default of training.
    ELBO_BATCH_MEAN = 0,
    // Sum over everything: nats of the batch.
    ELBO_SUM = 1,
    // Mean over all elements. The KL divergence then weighs D/Z times as much as under the other two.
    ELBO_MEAN = 2,
} elbo_reduction;

// Unit of a span of training.
typedef enum {
    // Updates of the weights.
    ELBO_STEPS = 0,
    // Passes over the data.
    ELBO_EPOCHS = 1,
} elbo_span_unit;

// Instruction set and threads to compute with. Neither changes a bit of a result.
//
// May be used by several threads at the same time: the first shares its work with the threads of the handle,
// the others work alone meanwhile. The child of a fork does not have the threads: a call there with this handle, or
// with one made from it, is an error (ELBO_THREADS) unless it is of one thread.
typedef struct elbo_compute elbo_compute;

// A model with threads and with memory to run in. A call that follows the set-up allocates nothing. One call at a
// time uses a handle (ELBO_BUSY otherwise); threads of the caller make one each.
typedef struct elbo_inference elbo_inference;

// A model: its configuration and its weights, which do not change. May be used by several threads at the same time.
typedef struct elbo_model elbo_model;

// The weights [outputs, inputs] and biases [outputs] of one dense layer, or their gradients, in panels: the order
// in which the products read them. One call at a time uses a handle (ELBO_BUSY otherwise).
typedef struct elbo_panels elbo_panels;

// A model in training. One call at a time uses a handle (ELBO_BUSY otherwise).
typedef struct elbo_trainer elbo_trainer;

// A reconstruction term: a kind and the numbers that it uses. Set the others to 0.
typedef struct {
    // One of `elbo_reconstruction_kind`.
    int32_t kind;
    // ELBO_WEIGHTED_BERNOULLI: weight of a one relative to a zero, at least 0.
    float pos_weight;
    // ELBO_GAUSSIAN: logarithm of the variance.
    float logvar;
    // ELBO_GAUSSIAN_PER_FEATURE: logarithms of the variances, one for each column.
    const float *logvars;
} elbo_reconstruction;

// A penalty and the numbers that it uses. Set the others to 0.
typedef struct {
    // One of `elbo_penalty_kind`.
    int32_t kind;
    // ELBO_FREE_BITS, ELBO_CAPACITY: one of `elbo_per`.
    int32_t per;
    // ELBO_FREE_BITS: the threshold, in nats.
    float lambda;
    // ELBO_CAPACITY: the weight.
    float gamma;
    // ELBO_CAPACITY: the divergence that costs nothing, in nats.
    float nats;
    // Mean of the prior of each latent dimension; 0 for N(0, 1).
    float prior_mean;
    // Standard deviation of the prior, from 1e-15 to 1e15; 1 for N(0, 1).
    float prior_std;
} elbo_penalty;

// The negative evidence lower bound and its parts, reduced, in nats.
typedef struct {
    // reconstruction + beta * penalty, of which the gradients are taken.
    double loss;
    // The negative log-likelihood of the data.
    double reconstruction;
    // The KL divergence from the prior, neither weighted nor changed by a penalty.
    double kl;
} elbo_value;

// The KL divergence of a batch in three parts, in nats per example (Chen et al. 2018).
typedef struct {
    // Mutual information of example and code.
    double mutual_information;
    // Total correlation: the dependence of the latent dimensions on one another.
    double total_correlation;
    // KL divergence from the prior, dimension by dimension.
    double dimension_wise_kl;
} elbo_decomposition;

// An optimizer and its settings. `elbo_optimizer_init` sets the defaults of a kind.
typedef struct {
    // One of `elbo_optimizer_kind`.
    int32_t kind;
    // ELBO_SGD: 1 for Nesterov's momentum, otherwise 0.
    int32_t nesterov;
    // Step size.
    double learning_rate;
    // Decay of the first moment, in [0, 1). Not for ELBO_SGD.
    double beta1;
    // Decay of the second moment, in [0, 1). Not for ELBO_SGD.
    double beta2;
    // Constant in the denominator, at least 1e-16. Not for ELBO_SGD.
    double epsilon;
    // Weight decay.
    double weight_decay;
    // ELBO_SGD: momentum, in [0, 1).
    double momentum;
} elbo_optimizer;

// Shape and settings of a model. `elbo_config_init` sets the defaults.
typedef struct {
    // Features: the width D of a row.
    size_t features;
    // Latent dimensions Z.
    size_t latent;
    // Width C of the condition of a row; 0 for none.
    size_t conditions;
    // Widths of the encoder's hidden layers, from the data inwards.
    const size_t *encoder;
    // Number of them; 0 for a linear encoder, and `encoder` may then be null.
    size_t encoder_layers;
    // Widths of the decoder's hidden layers, from the latent code outwards; null for those of the encoder in
    // reverse.
    const size_t *decoder;
    // Number of them; ignored if `decoder` is null.
    size_t decoder_layers;
    // One of `elbo_activation`.
    int32_t activation;
    // ELBO_LEAKY_RELU: slope, in [0, 1). ELBO_ELU: alpha.
    float activation_parameter;
    // 1 for a layer normalization before each activation, otherwise 0.
    int32_t layer_norm;
    // Probability that a hidden unit is dropped in training, in [0, 1).
    float dropout;
    // One of `elbo_likelihood`.
    int32_t likelihood;
    // ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI: weight of a one. ELBO_LIKELIHOOD_GAUSSIAN: the variance.
    float likelihood_parameter;
    // Mean of the prior of each latent dimension.
    float prior_mean;
    // Standard deviation of the prior.
    float prior_std;
    // 1 to bend log-variances softly into [logvar_low, logvar_high], otherwise 0.
    int32_t logvar_clamp;
    // Lower bound, at least -80.
    float logvar_low;
    // Upper bound, at most 80.
    float logvar_high;
} elbo_config;

// Loss of a model on a data set: means over its rows, in nats per example.
typedef struct {
    // Rows evaluated.
    size_t rows;
    // The negative evidence lower bound.
    double loss;
    // Its reconstruction term, of one draw of the noise for each row.
    double reconstruction;
    // Its KL divergence from the prior.
    double kl;
    // Latent dimensions whose mean varies over the data, with a variance above 0.01.
    size_t active_units;
} elbo_evaluation;

// A function of the caller that fills `out`, `columns` numbers, with row `row` of a data set. Returns 0; another
// number ends the call of the library with ELBO_CALLBACK.
//
// It is called from the threads of the call's elbo_compute, several at a time, with the rows in any order, and must
// give the same numbers for a row each time. It must not throw a C++ exception or leave by longjmp.
typedef int32_t (*elbo_read_row)(void *context, size_t row, float *out, size_t columns);

// Rows that functions of the caller fill.
typedef struct {
    // Number of rows.
    size_t rows;
    // Fills a row, as wide as the model's features.
    elbo_read_row read_row;
    // Fills the condition of a row, as wide as the model's conditions; null if it has none.
    elbo_read_row read_condition;
    // First argument of both functions.
    void *context;
} elbo_dataset;

// Length of a part of training.
typedef struct {
    // One of `elbo_span_unit`.
    int32_t unit;
    // Number of them.
    uint64_t count;
} elbo_span;

// Training options. `elbo_train_options_init` sets the defaults; the numbers of what is not chosen are ignored.
typedef struct {
    // Rows of a batch; 128. The last batch of an epoch may be shorter.
    size_t batch;
    // Batches whose gradients are added up for one step; 1.
    size_t accumulate;
    // Shards of a batch, a power of two; 1.
    size_t shards;
    // Seed of the order of the rows and of the noise; 1.
    uint64_t seed;
    // The optimizer; Adam.
    elbo_optimizer optimizer;
    // Weight of the penalty; 1.
    float beta;
    // One of `elbo_reduction`; ELBO_BATCH_MEAN.
    int32_t reduction;
    // One of `elbo_annealing`; ELBO_ANNEALING_CONSTANT.
    int32_t annealing;
    // Weight at the beginning of linear or cosine annealing.
    float annealing_from;
    // Cycles of cyclical annealing.
    uint32_t annealing_cycles;
    // Fraction of a cycle in which the weight grows, in (0, 1].
    float annealing_ratio;
    // Length of the annealing.
    elbo_span annealing_over;
    // One of `elbo_penalty_kind`; ELBO_KL.
    int32_t penalty;
    // ELBO_FREE_BITS, ELBO_CAPACITY: one of `elbo_per`.
    int32_t per;
    // ELBO_FREE_BITS: the threshold, in nats.
    float lambda;
    // ELBO_CAPACITY: the weight. ELBO_TOTAL_CORRELATION: the weight of the dimension-wise KL divergence.
    float gamma;
    // ELBO_TOTAL_CORRELATION: the weight of the mutual information.
    float alpha;
    // ELBO_CAPACITY: the capacity at the end, in nats per example.
    float capacity;
    // ELBO_CAPACITY: the span over which it grows from 0.
    elbo_span capacity_over;
    // ELBO_IMPORTANCE: samples of each example.
    size_t samples;
    // ELBO_IMPORTANCE: one of `elbo_estimator`.
    int32_t estimator;
    // One of `elbo_clip`; ELBO_CLIP_NONE.
    int32_t clip;
    // The limit.
    float clip_limit;
    // One of `elbo_decay`; ELBO_DECAY_CONSTANT.
    int32_t decay;
    // Steps over which the learning rate rises from 0; 0 for no warm-up.
    uint64_t warm_up;
    // Epochs of ELBO_DECAY_STEP and ELBO_DECAY_PLATEAU.
    uint64_t decay_epochs;
    // Factor of ELBO_DECAY_STEP and ELBO_DECAY_PLATEAU.
    double decay_factor;
    // Length of ELBO_DECAY_COSINE.
    elbo_span decay_over;
    // Fraction of the learning rate that ELBO_DECAY_COSINE leaves, in [0, 1].
    double decay_floor;
    // One of `elbo_augmentation`; ELBO_AUGMENTATION_NONE.
    int32_t augmentation;
    // Levels of ELBO_AUGMENTATION_DEQUANTIZE, such as 256.
    uint32_t augmentation_levels;
} elbo_train_options;

// Result of one training step.
typedef struct {
    // Number of the step, counted from 1.
    uint64_t step;
    // Number of the epoch, counted from 1.
    uint64_t epoch;
    // Rows of the batch; 0 if there was no step, because the epoch was over.
    size_t rows;
    // The loss before the update, as the objective reduces it.
    double loss;
    // Its reconstruction term.
    double reconstruction;
    // The KL divergence, whatever the penalty.
    double kl;
    // Learning rate of the step.
    double learning_rate;
    // Weight beta of the step.
    float beta;
} elbo_step;

// Result of one epoch: means over its rows, in nats per example, whatever the reduction.
typedef struct {
    // Number of the epoch, counted from 1.
    uint64_t epoch;
    // Rows of its steps.
    size_t rows;
    // The loss, with the weights of each step.
    double loss;
    // Its reconstruction term.
    double reconstruction;
    // The KL divergence, whatever the penalty.
    double kl;
    // Learning rate of the last step.
    double learning_rate;
    // Weight beta of the last step.
    float beta;
} elbo_epoch;

// A function of the caller that sees each step of an epoch. Returns 0 to go on; another number ends the epoch with
// ELBO_CALLBACK, after the step. It is called from the thread that called `elbo_trainer_epoch`, and must not throw a
// C++ exception or leave by longjmp.
typedef int32_t (*elbo_on_step)(void *context, const elbo_step *step);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the message of the last error on the calling thread: the function, what is wrong, where, and what to
// do. UTF-8; empty if there has been no error.
//
// A call without an error leaves the message as it is. The text belongs to the library and is valid until the
// next error on this thread.
const char *elbo_last_error_message(void);

// Returns the name of a status, such as "ELBO_OVERLAP"; "unknown status" for other numbers. The text is
// static.
const char *elbo_status_name(int32_t status);

// Returns the version of the library, such as "0.1.0". The text is static.
const char *elbo_version(void);

// Starts threads: one fewer than `threads`, as the calling thread is one of them; for 0, as many as there are
// processors for this process. Uses the widest instruction set of the machine.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED; ELBO_OPTION for more than 65536 threads; ELBO_THREADS if the system refuses
// them.
elbo_status elbo_compute_new(elbo_compute **compute, size_t threads);

// As `elbo_compute_new`, with an instruction set by name: "auto", "scalar", "avx2", "avx512" or "neon".
//
// Errors: as `elbo_compute_new`; ELBO_OPTION for a name that is unknown or that this machine does not have.
elbo_status elbo_compute_new_with(elbo_compute **compute, const char *instruction_set, size_t threads);

// Returns the number of threads; 0 for a null pointer.
size_t elbo_compute_threads(const elbo_compute *compute);

// Returns the name of the instruction set; an empty text for a null pointer. The text is static.
const char *elbo_compute_instruction_set(const elbo_compute *compute);

// Ends the threads once no model, inference or trainer uses them. Nothing happens for a null pointer.
void elbo_compute_free(elbo_compute *compute);

// Writes the reduced reconstruction term of `outputs` and `targets`, both [rows, columns], to `value`, in nats.
//
// NaN in `outputs` gives NaN. Sums are of type double, within 1e-6 of the exact value. Allocates nothing.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP; ELBO_SIZE for a mean of nothing; ELBO_OPTION
// for a kind, a number or a reduction outside its domain; ELBO_DATA for the first target, in row order, that
// the term does not accept.
elbo_status elbo_reconstruction_forward(const elbo_compute *compute,
                                        const elbo_reconstruction *term,
                                        double *value,
                                        const float *outputs,
                                        size_t outputs_stride,
                                        const float *targets,
                                        size_t targets_stride,
                                        size_t rows,
                                        size_t columns,
                                        int32_t reduction);

// As `elbo_reconstruction_forward`, and overwrites `doutputs` [rows, columns] with the gradient of `value` by
// `outputs`. The value has the same bits.
//
// Errors: as `elbo_reconstruction_forward`; `doutputs` and `value` then hold unspecified numbers.
elbo_status elbo_reconstruction_forward_backward(const elbo_compute *compute,
                                                 const elbo_reconstruction *term,
                                                 double *value,
                                                 float *doutputs,
                                                 size_t doutputs_stride,
                                                 const float *outputs,
                                                 size_t outputs_stride,
                                                 const float *targets,
                                                 size_t targets_stride,
                                                 size_t rows,
                                                 size_t columns,
                                                 int32_t reduction);

// Overwrites `values` [rows] with the reconstruction term of each row, summed over its columns, in nats.
//
// Errors: as `elbo_reconstruction_forward`; `values` then hold unspecified numbers.
elbo_status elbo_reconstruction_per_example(const elbo_compute *compute,
                                            const elbo_reconstruction *term,
                                            double *values,
                                            const float *outputs,
                                            size_t outputs_stride,
                                            const float *targets,
                                            size_t targets_stride,
                                            size_t rows,
                                            size_t columns);

// Overwrites `dlogvar` with the gradient of a Gaussian term by its log-variances: 1 number for ELBO_GAUSSIAN,
// `columns` for ELBO_GAUSSIAN_PER_FEATURE. Takes a pass over the data of its own.
//
// Errors: as `elbo_reconstruction_forward`; ELBO_OPTION for another kind.
elbo_status elbo_gaussian_backward_logvar(const elbo_compute *compute,
                                          const elbo_reconstruction *term,
                                          double *dlogvar,
                                          const float *outputs,
                                          size_t outputs_stride,
                                          const float *targets,
                                          size_t targets_stride,
                                          size_t rows,
                                          size_t columns,
                                          int32_t reduction);

// Writes the reduced penalty of the posteriors `mu` and `logvar`, both [rows, latent], to `value`, in nats.
//
// Allocates nothing, except 2 * latent numbers for free bits of dimensions.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP; ELBO_SIZE for a mean of nothing; ELBO_OPTION
// for a kind, a number or a reduction outside its domain. NaN and infinities in `mu` and `logvar` are no error:
// they show in the value.
elbo_status elbo_penalty_forward(const elbo_compute *compute,
                                 const elbo_penalty *penalty,
                                 double *value,
                                 const float *mu,
                                 size_t mu_stride,
                                 const float *logvar,
                                 size_t logvar_stride,
                                 size_t rows,
                                 size_t latent,
                                 int32_t reduction);

// As `elbo_penalty_forward`, and overwrites `dmu` and `dlogvar` [rows, latent] with the gradients of `value`.
//
// Errors: as `elbo_penalty_forward`; the gradients and `value` then hold unspecified numbers.
elbo_status elbo_penalty_forward_backward(const elbo_compute *compute,
                                          const elbo_penalty *penalty,
                                          double *value,
                                          float *dmu,
                                          size_t dmu_stride,
                                          float *dlogvar,
                                          size_t dlogvar_stride,
                                          const float *mu,
                                          size_t mu_stride,
                                          const float *logvar,
                                          size_t logvar_stride,
                                          size_t rows,
                                          size_t latent,
                                          int32_t reduction);

// Overwrites `values` [rows] with the penalty of each row, summed over latent dimensions, in nats.
//
// Errors: as `elbo_penalty_forward`; ELBO_OPTION for a penalty on the whole batch, which has no value for one
// example: free bits of dimensions, a capacity of the batch.
elbo_status elbo_penalty_per_example(const elbo_compute *compute,
                                     const elbo_penalty *penalty,
                                     double *values,
                                     const float *mu,
                                     size_t mu_stride,
                                     const float *logvar,
                                     size_t logvar_stride,
                                     size_t rows,
                                     size_t latent);

// Writes the objective of a variational autoencoder, reconstruction + beta * penalty, and its parts to `value`,
// in nats: `outputs` and `targets` are [rows, columns], `mu` and `logvar` [rows, latent].
//
// Each part has the bits of its term alone.
//
// Errors: as `elbo_reconstruction_forward` and `elbo_penalty_forward`; ELBO_OPTION for a beta that is negative
// or not finite.
elbo_status elbo_objective_forward(const elbo_compute *compute,
                                   const elbo_reconstruction *term,
                                   const elbo_penalty *penalty,
                                   float beta,
                                   elbo_value *value,
                                   const float *outputs,
                                   size_t outputs_stride,
                                   const float *targets,
                                   size_t targets_stride,
                                   const float *mu,
                                   size_t mu_stride,
                                   const float *logvar,
                                   size_t logvar_stride,
                                   size_t rows,
                                   size_t columns,
                                   size_t latent,
                                   int32_t reduction);

// As `elbo_objective_forward`, and overwrites `doutputs` [rows, columns], `dmu` and `dlogvar` [rows, latent] with
// the gradients of `value.loss`, in the same pass. `dmu` and `dlogvar` are the penalty's part: that of the
// reconstruction comes through the decoder.
//
// Errors: as `elbo_objective_forward`; the gradients then hold unspecified numbers.
elbo_status elbo_objective_forward_backward(const elbo_compute *compute,
                                            const elbo_reconstruction *term,
                                            const elbo_penalty *penalty,
                                            float beta,
                                            elbo_value *value,
                                            float *doutputs,
                                            size_t doutputs_stride,
                                            float *dmu,
                                            size_t dmu_stride,
                                            float *dlogvar,
                                            size_t dlogvar_stride,
                                            const float *outputs,
                                            size_t outputs_stride,
                                            const float *targets,
                                            size_t targets_stride,
                                            const float *mu,
                                            size_t mu_stride,
                                            const float *logvar,
                                            size_t logvar_stride,
                                            size_t rows,
                                            size_t columns,
                                            size_t latent,
                                            int32_t reduction);

// Decomposes the KL divergence of a batch with codes `z`, means `mu` and log-variances `logvar`, all [rows,
// latent], drawn from `dataset_size` examples, and overwrites `dz`, `dmu` and `dlogvar` with the gradients of
//
//   alpha * mutual information + beta * total correlation + gamma * dimension-wise KL   (beta-TCVAE)
//
// in nats per example. Compares all pairs of rows; allocates rows^2 numbers.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP; ELBO_SIZE without a row; ELBO_OPTION for a
// weight that is negative or not finite, an empty data set, or a prior outside its domain.
elbo_status elbo_total_correlation_forward_backward(const elbo_compute *compute,
                                                    elbo_decomposition *value,
                                                    float *dz,
                                                    size_t dz_stride,
                                                    float *dmu,
                                                    size_t dmu_stride,
                                                    float *dlogvar,
                                                    size_t dlogvar_stride,
                                                    const float *z,
                                                    size_t z_stride,
                                                    const float *mu,
                                                    size_t mu_stride,
                                                    const float *logvar,
                                                    size_t logvar_stride,
                                                    size_t rows,
                                                    size_t latent,
                                                    size_t dataset_size,
                                                    float alpha,
                                                    float beta,
                                                    float gamma,
                                                    float prior_mean,
                                                    float prior_std);

// Makes panels of zeros.
//
// Errors: ELBO_NULL, ELBO_MEMORY.
elbo_status elbo_panels_new(elbo_panels **panels, size_t outputs, size_t inputs);

// Overwrites the panels with `weight` [outputs, inputs] and `bias` [outputs], as torch.nn.Linear stores them.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP, ELBO_BUSY.
elbo_status elbo_panels_set(elbo_panels *panels, const float *weight, size_t weight_stride, const float *bias);

// Overwrites `weight` [outputs, inputs] and `bias` [outputs] with what the panels hold.
//
// Errors: as `elbo_panels_set`.
elbo_status elbo_panels_get(const elbo_panels *panels, float *weight, size_t weight_stride, float *bias);

// Writes the address and the number of the elements of the panels, padding included, for optimizers, which take
// weights in any order. The padding must stay 0, as it does with a gradient of 0. Valid until
// `elbo_panels_free`; no call may use the panels while the caller writes there.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY.
elbo_status elbo_panels_data(elbo_panels *panels, float **data, size_t *length);

// Frees the panels, unless a call is using them. Nothing happens for a null pointer.
void elbo_panels_free(elbo_panels *panels);

// Forward product: overwrites `y` [rows, outputs] with x W^T + b; `x` is [rows, inputs].
//
// Each element is one chain of fused multiply-adds over the inputs, ascending, from the bias. Allocates a list of
// the threads' tasks, and copies where rows do not follow one another.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP, ELBO_BUSY.
elbo_status elbo_product(const elbo_compute *compute,
                         float *y,
                         size_t y_stride,
                         const float *x,
                         size_t x_stride,
                         const elbo_panels *panels,
                         size_t rows);

// Input gradient: overwrites `dx` [rows, inputs] with dy W; `dy` is [rows, outputs]. Allocates transposed copies
// of some rows.
//
// Errors: as `elbo_product`.
elbo_status elbo_input_gradient(const elbo_compute *compute,
                                float *dx,
                                size_t dx_stride,
                                const float *dy,
                                size_t dy_stride,
                                const elbo_panels *panels,
                                size_t rows);

// Weight gradient: overwrites `dpanels` with dy^T x and the column sums of dy; `x` is [rows, inputs], `dy`
// [rows, outputs]. Allocates a list of the threads' tasks and copies of some rows.
//
// Errors: as `elbo_product`.
elbo_status elbo_weight_gradient(const elbo_compute *compute,
                                 elbo_panels *dpanels,
                                 const float *x,
                                 size_t x_stride,
                                 const float *dy,
                                 size_t dy_stride,
                                 size_t rows);

// Sets the defaults of `kind` (`elbo_optimizer_kind`): those of torch.optim.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_OPTION for an unknown kind.
elbo_status elbo_optimizer_init(elbo_optimizer *optimizer, int32_t kind);

// Takes step `t`, counted from 1: updates `length` weights `w` and their moments `m` and `v` in place, from the
// gradient `g`. The moments are 0 before the first step. ELBO_SGD uses `m` alone; `v` may then be null.
//
// Runs on the calling thread. Allocates nothing.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_OVERLAP, ELBO_SIZE; ELBO_OPTION for `t` = 0 or a setting outside its
// domain. Nothing has then changed.
elbo_status elbo_optimizer_step(const elbo_compute *compute,
                                const elbo_optimizer *optimizer,
                                uint64_t t,
                                float *w,
                                float *m,
                                float *v,
                                const float *g,
                                size_t length);

// Sets the defaults: no hidden layers, ReLU, Bernoulli likelihood, prior N(0, 1), no conditions.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED.
elbo_status elbo_config_init(elbo_config *config, size_t features, size_t latent);

// Makes a model with the initial weights of `seed`. The same configuration and seed give the same weights on any
// machine.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED; ELBO_OPTION for a setting outside its domain; ELBO_MEMORY.
elbo_status elbo_model_new(elbo_model **model, const elbo_config *config, uint64_t seed);

// Reads a model from a file of `elbo_model_save`, of the tool `elbo`, of a checkpoint, or of a PyTorch module in the
// safetensors format.
//
// Errors: ELBO_NULL; ELBO_IO if the file cannot be read; ELBO_MODEL_FILE if it is damaged or another file.
elbo_status elbo_model_load(elbo_model **model, const char *path);

// Writes the model to a file, which never holds half a model. The same model gives the same bytes.
//
// Errors: ELBO_NULL; ELBO_IO if the file cannot be written.
elbo_status elbo_model_save(const elbo_model *model, const char *path);

// Returns the features: the width D of a row; 0 for a null pointer.
size_t elbo_model_features(const elbo_model *model);

// Returns the number Z of latent dimensions; 0 for a null pointer.
size_t elbo_model_latent(const elbo_model *model);

// Returns the width C of the condition of a row, 0 if the model has none; 0 for a null pointer.
size_t elbo_model_conditions(const elbo_model *model);

// Returns the number of weights; 0 for a null pointer.
size_t elbo_model_parameters(const elbo_model *model);

// Writes the loss of the model on all rows of `data` to `evaluation`. The noise of a row is a function of `seed`
// and of the number of the row. Allocates.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_CALLBACK; ELBO_OPTION without a row; ELBO_DATA for data that the
// likelihood does not accept, with the row; ELBO_NOT_FINITE; ELBO_MEMORY.
elbo_status elbo_model_evaluate(const elbo_model *model,
                                const elbo_compute *compute,
                                elbo_evaluation *evaluation,
                                const elbo_dataset *data,
                                uint64_t seed);

// Frees the model. Inferences and trainers made from it keep what they need. Nothing happens for a null pointer.
void elbo_model_free(elbo_model *model);

// Makes memory to run `model` on the threads of `compute`, both of which it keeps.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED.
elbo_status elbo_inference_new(elbo_inference **inference, const elbo_model *model, const elbo_compute *compute);

// Overwrites `mu` and `logvar` [rows, latent] with the posterior N(mu, exp(logvar)) of each row of `x` [rows,
// features], given `conditions` [rows, conditions], or null if the model has none.
//
// NaN in a row gives NaN in its posterior.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_STRIDE, ELBO_OVERLAP, ELBO_BUSY; ELBO_SIZE for conditions of a model
// without.
elbo_status elbo_encode(elbo_inference *inference,
                        float *mu,
                        size_t mu_stride,
                        float *logvar,
                        size_t logvar_stride,
                        const float *x,
                        size_t x_stride,
                        const float *conditions,
                        size_t conditions_stride,
                        size_t rows);

// Overwrites `x` [rows, features] with the mean of the likelihood for each latent code `z` [rows, latent], given
// `conditions` [rows, conditions], or null if the model has none.
//
// Errors: as `elbo_encode`.
elbo_status elbo_decode(elbo_inference *inference,
                        float *x,
                        size_t x_stride,
                        const float *z,
                        size_t z_stride,
                        const float *conditions,
                        size_t conditions_stride,
                        size_t rows);

// As `elbo_decode`, with the decoder's outputs in place of the mean: the logits of a Bernoulli likelihood.
//
// Errors: as `elbo_encode`.
elbo_status elbo_decode_logits(elbo_inference *inference,
                               float *x,
                               size_t x_stride,
                               const float *z,
                               size_t z_stride,
                               const float *conditions,
                               size_t conditions_stride,
                               size_t rows);

// Overwrites `reconstruction` [rows, features] with the mean of the likelihood at the posterior's mean of each row
// of `x` [rows, features], given `conditions` [rows, conditions], or null if the model has none.
//
// Errors: as `elbo_encode`.
elbo_status elbo_reconstruct(elbo_inference *inference,
                             float *reconstruction,
                             size_t reconstruction_stride,
                             const float *x,
                             size_t x_stride,
                             const float *conditions,
                             size_t conditions_stride,
                             size_t rows);

// Overwrites `reconstruction` and `kl` [rows] with the terms of the negative evidence lower bound of each row of
// `x` [rows, features], in nats, with the decoder at the posterior's mean. Their sum is the larger, the less likely
// the row under the model. A row's terms depend on the row alone.
//
// Errors: as `elbo_encode`; ELBO_DATA for the first row with data that the likelihood does not accept;
// ELBO_NOT_FINITE; ELBO_OPTION for ELBO_LIKELIHOOD_GAUSSIAN_OPTIMAL. `reconstruction` and `kl` then hold
// unspecified numbers.
elbo_status elbo_score(elbo_inference *inference,
                       double *reconstruction,
                       double *kl,
                       const float *x,
                       size_t x_stride,
                       const float *conditions,
                       size_t conditions_stride,
                       size_t rows);

// Overwrites `x` [rows, features] with samples: means of the likelihood for codes drawn from the prior, given
// `conditions` [rows, conditions], or null if the model has none.
//
// Row i is sample `first_sample` + i of `seed`: a function of the two alone, on any number of threads.
//
// Errors: as `elbo_encode`; ELBO_OPTION for samples beyond 2^48.
elbo_status elbo_sample(elbo_inference *inference,
                        float *x,
                        size_t x_stride,
                        const float *conditions,
                        size_t conditions_stride,
                        size_t rows,
                        uint64_t seed,
                        uint64_t first_sample);

// Frees the memory, unless a call is using it. Nothing happens for a null pointer.
void elbo_inference_free(elbo_inference *inference);

// Sets the defaults: batches of 128 rows, Adam, the negative evidence lower bound per example.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED.
elbo_status elbo_train_options_init(elbo_train_options *options);

// Starts training a copy of `model` on the threads of `compute`. The same model, options and data give the same
// weights, bit for bit, on any number of threads, and those of the tool `elbo train`.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED; ELBO_OPTION for options outside their domains or that do not go with each
// other or with the model; ELBO_MEMORY.
elbo_status elbo_trainer_new(elbo_trainer **trainer,
                             const elbo_model *model,
                             const elbo_compute *compute,
                             const elbo_train_options *options);

// Goes on with training from a checkpoint of `elbo_trainer_save_checkpoint` or of the tool, to the bits of a run
// that was never interrupted.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_IO, ELBO_MODEL_FILE, ELBO_MEMORY.
elbo_status elbo_trainer_resume(elbo_trainer **trainer, const char *path, const elbo_compute *compute);

// Trains on the next batch of the current epoch. `step->rows` is 0 if the epoch was over: the next call begins
// another. `step` may be null.
//
// Once warm, a step does not allocate: the first step makes room for whole batches, and the first of an epoch
// draws the order of the rows.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY; ELBO_CALLBACK if a function of `data` returns another number than 0;
// ELBO_DATA and ELBO_NOT_FINITE with the step and the first faulty row; ELBO_OPTION without a row; ELBO_MEMORY. The
// weights are then those before the step, and the same batch comes next. ELBO_INTERRUPTED and ELBO_INTERNAL after
// a fault of the library.
elbo_status elbo_trainer_step(elbo_trainer *trainer, elbo_step *step, const elbo_dataset *data);

// Trains to the end of the current epoch, or on all of the next one if nothing is left. `on_step`, which may be
// null, sees each step with `context`; `epoch` may be null.
//
// Errors: as `elbo_trainer_step`; ELBO_CALLBACK also if `on_step` returns another number than 0. Training can go on
// where it ended.
elbo_status elbo_trainer_epoch(elbo_trainer *trainer,
                               elbo_epoch *epoch,
                               const elbo_dataset *data,
                               elbo_on_step on_step,
                               void *context);

// Passes the loss of an epoch, best that of a validation set, to ELBO_DECAY_PLATEAU. Other schedules ignore it.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY; ELBO_OPTION for a loss that is NaN or infinite.
elbo_status elbo_trainer_observe(elbo_trainer *trainer, double loss);

// Writes the loss of the weights as they are on all rows of `data` to `evaluation`, as `elbo_model_evaluate` does,
// with the negative evidence lower bound for the loss.
//
// Errors: as `elbo_model_evaluate`, and ELBO_BUSY.
elbo_status elbo_trainer_evaluate(elbo_trainer *trainer,
                                  elbo_evaluation *evaluation,
                                  const elbo_dataset *data,
                                  uint64_t seed);

// Makes a model of the weights as they are.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY.
elbo_status elbo_trainer_model(const elbo_trainer *trainer, elbo_model **model);

// Writes the state of the training to a file, for `elbo_trainer_resume`. It is a model file, too.
//
// Errors: ELBO_NULL, ELBO_MISALIGNED, ELBO_BUSY, ELBO_IO.
elbo_status elbo_trainer_save_checkpoint(const elbo_trainer *trainer, const char *path);

// Frees the trainer, unless a call is using it. Nothing happens for a null pointer.
void elbo_trainer_free(elbo_trainer *trainer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ELBO_H */
