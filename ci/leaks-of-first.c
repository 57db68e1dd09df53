/* Preloaded into httpd by ci/sanitize: limits LeakSanitizer to the first process. Child processes exit without
 * freeing the configuration. LeakSanitizer would report memory that is referenced only from httpd's pools, since
 * Debian's APR maps their memory itself. */
#include <unistd.h>

static pid_t first;

__attribute__((constructor)) static void note(void) { first = getpid(); }

/* LeakSanitizer's own interface. */
int __lsan_is_turned_off(void) { return getpid() != first; }
