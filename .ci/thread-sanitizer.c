// Tells the thread sanitizer what the standard library synchronizes, which is not instrumented: a lock taken after
// a wait, and a value made once. A lock that is free is taken by inlined code, which is instrumented.
//
// The linker replaces the functions by these (--wrap). LOCK, WAIT and ONCE are their mangled names.

void __tsan_acquire(void *address);
void __tsan_release(void *address);

// Mutex::lock_contended(&self)
void lock(void *mutex) __asm__("__real_" LOCK);
void wrapped_lock(void *mutex) __asm__("__wrap_" LOCK);
void wrapped_lock(void *mutex) {
    lock(mutex);
    __tsan_acquire(mutex);
}

// Condvar::wait(&self, mutex: &Mutex) unlocks the mutex and locks it again.
void wait(void *condvar, void *mutex) __asm__("__real_" WAIT);
void wrapped_wait(void *condvar, void *mutex) __asm__("__wrap_" WAIT);
void wrapped_wait(void *condvar, void *mutex) {
    __tsan_release(mutex);
    wait(condvar, mutex);
    __tsan_acquire(mutex);
}

// Once::call(&self, ignore_poisoning: bool, f: &mut dyn FnMut(&OnceState))
void once(void *state, _Bool ignore_poisoning, void *f, void *methods) __asm__("__real_" ONCE);
void wrapped_once(void *state, _Bool ignore_poisoning, void *f, void *methods) __asm__("__wrap_" ONCE);
void wrapped_once(void *state, _Bool ignore_poisoning, void *f, void *methods) {
    once(state, ignore_poisoning, f, methods);
    __tsan_release(state);
    __tsan_acquire(state);
}
