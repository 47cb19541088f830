// The training spline: rows are shared out to threads. A row's numbers do not depend on which thread has it.
#include "spline_train.h"

#include <pthread.h>

#include "isa.h"

CALORAY_DECLARE(void, spline_train_forward, (const void* call, int64_t first, int64_t last))
CALORAY_DECLARE(void, spline_train_backward, (const void* call, int64_t first, int64_t last))

namespace {

using Kernel = void (*)(const void*, int64_t, int64_t);

constexpr int64_t MAX_THREADS = 256;
constexpr int64_t ELEMENTS_PER_THREAD = 8192;  // about 0.1 ms of work; starting a thread takes some 0.02 ms

struct Part {
    Kernel kernel;
    const void* call;
    int64_t first, last;
};

void* work(void* argument) {
    const Part& part = *static_cast<const Part*>(argument);
    part.kernel(part.call, part.first, part.last);
    return nullptr;
}

// The first part is this thread's, and so is every part for which no thread can be had.
void run(Kernel kernel, const void* call, const SplineShape& shape, int64_t threads) {
    const int64_t useful = 1 + shape.rows * shape.features / ELEMENTS_PER_THREAD;
    threads = threads < useful ? threads : useful;
    threads = threads < MAX_THREADS ? threads : MAX_THREADS;
    threads = threads < 1 ? 1 : threads;
    Part parts[MAX_THREADS];
    pthread_t handles[MAX_THREADS];
    bool started[MAX_THREADS] = {};
    for (int64_t i = 0; i < threads; ++i) {
        parts[i] = {kernel, call, shape.rows * i / threads, shape.rows * (i + 1) / threads};
        if (i > 0) started[i] = pthread_create(&handles[i], nullptr, work, &parts[i]) == 0;
    }
    for (int64_t i = 0; i < threads; ++i)
        if (!started[i]) work(&parts[i]);
    for (int64_t i = 0; i < threads; ++i)
        if (started[i]) pthread_join(handles[i], nullptr);
}

}  // namespace

CALORAY_EXPORT void caloray_spline_train_forward(const SplineForward* call, int32_t isa, int64_t threads) {
    run(CALORAY_SELECT(spline_train_forward, isa), call, call->shape, threads);
}

CALORAY_EXPORT void caloray_spline_train_backward(const SplineBackward* call, int32_t isa, int64_t threads) {
    run(CALORAY_SELECT(spline_train_backward, isa), call, call->shape, threads);
}
