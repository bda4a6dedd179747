/*
 * Feeds payloads to a kernel's own decompressor, compiled for user space, as arch/x86/boot/compressed does: in place, with its heap.
 *
 * Standard input, again and again: u32 payload length, u32 output length, u32 1 if the expected output follows; payload; expected output.
 * Standard output, a byte for each: o read and equal, d read and not equal, r read and nothing to compare with, e refused, c crashed.
 */
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
extern int read(int, void *, unsigned long);
extern int write(int, const void *, unsigned long);
extern void *mmap(void *, unsigned long, int, int, int, long);
extern void _exit(int);
extern int memcmp(const void *, const void *, unsigned long);
extern void *memcpy(void *, const void *, unsigned long);
extern void *memset(void *, int, unsigned long);
extern void *memmove(void *, const void *, unsigned long);

static unsigned long free_mem_ptr, free_mem_end_ptr;
static sigjmp_buf out;
static int failed;
static void error(char *why) { (void)why; failed = 1; siglongjmp(out, 1); }

#define STATIC static
#define memzero(s, n) memset((s), 0, (n))
#define memmove memmove
#define CONFIG_X86 1
#define CONFIG_X86_64 1
#define CONFIG_64BIT 1
#define CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS 1
#define __DISABLE_EXPORTS 1
#undef __BIG_ENDIAN
#undef __BIG_ENDIAN_BITFIELD
#define __KERNEL__ 1
#include DECOMPRESSOR

static void crashed(int signal) { (void)signal; siglongjmp(out, 2); }

static void need(void *to, unsigned long count) {
  char *at = to;
  while (count) {
    int got = read(0, at, count);
    if (got <= 0) _exit(at == (char *)to ? 0 : 1);
    at += got; count -= got;
  }
}

int main(void) {
  enum { MOST = 80 << 20 };
  unsigned char *heap = mmap(0, JUDGE_HEAP + 4096, 3, 0x22, -1, 0);
  unsigned char *buffer = mmap(0, MOST * 2, 3, 0x22, -1, 0);
  unsigned char *payload = mmap(0, MOST, 3, 0x22, -1, 0);
  unsigned char *expected = mmap(0, MOST, 3, 0x22, -1, 0);
  static char stack[1 << 16];
  stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = crashed; action.sa_flags = SA_NODEFER | SA_ONSTACK;
  sigaltstack(&alternate, 0);
  sigaction(SIGSEGV, &action, 0); sigaction(SIGBUS, &action, 0); sigaction(SIGFPE, &action, 0); sigaction(SIGILL, &action, 0);
  sigaction(SIGALRM, &action, 0);
  for (;;) {
    uint32_t head[3];
    char answer;
    volatile int rc = 0;
    need(head, sizeof head);
    need(payload, head[0]);
    if (head[2]) need(expected, head[1]);
    unsigned long room = head[1] + (head[1] >> 8) + JUDGE_EXTRA;
    if (room < head[0]) room = head[0] + JUDGE_EXTRA;
    memset(buffer + (1 << 20), 0xa5, room + 4096);
    unsigned char *output = buffer + (1 << 20), *input = output + room - head[0];
    memcpy(input, payload, head[0]);
    free_mem_ptr = (unsigned long)heap; free_mem_end_ptr = free_mem_ptr + JUDGE_HEAP;
    malloc_ptr = 0; malloc_count = 0;
    failed = 0;
    extern unsigned alarm(unsigned);
    alarm(5);
    int how = sigsetjmp(out, 1);
    if (how == 0) {
      rc = __decompress(input, head[0], 0, 0, output, head[1], 0, error);
      answer = rc != 0 ? 'e' : !head[2] ? 'r' : memcmp(output, expected, head[1]) ? 'd' : 'o';
    } else answer = how == 2 ? 'c' : 'e';
    alarm(0);
    if (write(1, &answer, 1) != 1) _exit(1);
  }
}
