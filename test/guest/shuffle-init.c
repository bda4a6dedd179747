/*
 * /init for shuffled kernels: uses everything in the kernel that finds code by address or by name, and prints what came of it.
 *
 * C, where the other guest program is assembled by kslide itself: this one is part of one test, which needs gcc anyway, and does far more. No libc: system
 * calls and nothing else, so that it links static and small.
 *
 *     kslide-shuffle: kallsyms <lines> <lines out of order> <sum of name hashes> <sum of address and name hashes>
 *     kslide-shuffle: efault <results of system calls with bad pointers>
 *     kslide-shuffle: module <error of finit_module> <modules that are live>
 *     kslide-shuffle: functions <error> <error with all functions traced> <traced calls of vfs_write>
 *     kslide-shuffle: kprobe <errors, of adding and of enabling> <hits>
 *     kslide-shuffle: events <errors, of sched_switch and of schedstats> <sched_switch events, up to 5>
 *     kslide-shuffle: cpus <affinity mask>
 *     kslide-shuffle: end
 *
 * All numbers in hex. At the end it makes the kernel crash from deep inside (sysrq c), for the backtrace.
 */
typedef unsigned long u64;
typedef long s64;

enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, LSEEK = 8, IOCTL = 16, NANOSLEEP = 35, MKDIR = 83, MOUNT = 165, AFFINITY = 204, FINIT_MODULE = 313 };
enum { TCSBRK = 0x5409 }; /* with 1: wait until all is sent, as tcdrain(3) does */
enum { ENOEXEC = 8, MODULE_INIT_COMPRESSED_FILE = 4 };
enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_NOCTTY = 0400, O_TRUNC = 01000 };

static s64 sys(s64 number, s64 a, s64 b, s64 c, s64 d, s64 e) {
  s64 result;
  register s64 r10 __asm__("r10") = d;
  register s64 r8 __asm__("r8") = e;
  __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}

void *memset(void *to, int value, u64 size) {
  char *at = to;
  while (size--) *at++ = (char)value;
  return to;
}

static s64 console;
static char line[512];
static u64 used;
static char buffer[1 << 20];

static u64 length(const char *text) {
  u64 size = 0;
  while (text[size]) size++;
  return size;
}

static void put(const char *text) {
  while (*text && used < sizeof line - 1) line[used++] = *text++;
}

static void put_hex(u64 value) {
  char digits[17];
  int at = 16;
  digits[16] = 0;
  do digits[--at] = "0123456789abcdef"[value & 15];
  while (value >>= 4);
  put(" ");
  put(digits + at);
}

static void begin(const char *what) {
  used = 0;
  put("kslide-shuffle: ");
  put(what);
}

static void end(void) {
  line[used++] = '\n';
  sys(WRITE, console, (s64)line, (s64)used, 0, 0);
}

static s64 open_file(const char *path, s64 flags) { return sys(OPEN, (s64)path, flags, 0, 0, 0); }

static s64 write_file(const char *path, const char *text) {
  s64 file = open_file(path, O_WRONLY | O_TRUNC);
  if (file < 0) return file;
  s64 result = sys(WRITE, file, (s64)text, (s64)length(text), 0, 0);
  sys(CLOSE, file, 0, 0, 0, 0);
  return result;
}

/* How often `text` stands in a file, of which about `limit` bytes are read. */
static u64 count_in(const char *path, const char *text, u64 limit) {
  u64 found = 0, size = length(text), kept = 0;
  s64 file = open_file(path, O_RDONLY);
  if (file < 0) return (u64)file;
  while (limit > 0) {
    s64 got = sys(READ, file, (s64)(buffer + kept), 65536, 0, 0);
    if (got <= 0) break;
    u64 have = kept + (u64)got;
    for (u64 at = 0; at + size <= have; at++) {
      u64 same = 0;
      while (same < size && buffer[at + same] == text[same]) same++;
      if (same == size) found++;
    }
    kept = have < size - 1 ? have : size - 1;
    for (u64 at = 0; at < kept; at++) buffer[at] = buffer[have - kept + at];
    limit = limit > (u64)got ? limit - (u64)got : 0;
  }
  sys(CLOSE, file, 0, 0, 0, 0);
  return found;
}

/* FNV-1a, so that the host can do the same; sums, so that the order of lines does not matter. */
static void kallsyms(void) {
  s64 file = open_file("/proc/kallsyms", O_RDONLY);
  u64 lines = 0, disorder = 0, names = 0, pairs = 0, last = 0, text = 0, address = 0, hash = 0;
  int column = 0;
  for (;;) {
    s64 got = sys(READ, file, (s64)buffer, sizeof buffer, 0, 0);
    if (got <= 0) break;
    for (s64 at = 0; at < got; at++) {
      unsigned char c = (unsigned char)buffer[at];
      if (c == '\n') {
        /* Modules come behind the kernel, and have their own order. */
        if (column >= 0) {
          lines++;
          if (address < last) disorder++;
          last = address;
          names += hash;
          pairs += hash * (2 * (address < (1UL << 63) ? address : address - text) + 1);
        }
        column = 0;
      } else if (column >= 0 && column < 16) {
        if (column == 0) address = 0;
        address = address << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
        if (++column == 16) {
          hash = 0xcbf29ce484222325UL;
          if (address >> 63 && !text) text = address;
        }
      } else if (c == '\t') column = -1;
      else if (column >= 0) {
        hash = (hash ^ c) * 0x100000001b3UL;
        column++;
      }
    }
  }
  sys(CLOSE, file, 0, 0, 0, 0);
  begin("kallsyms");
  put_hex(lines);
  put_hex(disorder);
  put_hex(names);
  put_hex(pairs);
  end();
}

static void bad_pointers(void) {
  s64 null = open_file("/proc/self/comm", O_RDWR);
  begin("efault");
  put_hex((u64)-sys(READ, null, 8, 16, 0, 0));
  put_hex((u64)-sys(WRITE, null, 8, 16, 0, 0));
  put_hex((u64)-sys(OPEN, 8, 0, 0, 0, 0));
  put_hex((u64)-sys(NANOSLEEP, 8, 0, 0, 0, 0));
  put_hex((u64)-sys(AFFINITY, 0, 128, (s64)0x7000000000000000, 0, 0));
  end();
  sys(CLOSE, null, 0, 0, 0, 0);
}

static void module(void) {
  s64 file = open_file("/module.ko", O_RDONLY);
  if (file < 0) return;
  begin("module");
  s64 error = sys(FINIT_MODULE, file, (s64) "", 0, 0, 0);
  if (error == -ENOEXEC) error = sys(FINIT_MODULE, file, (s64) "", MODULE_INIT_COMPRESSED_FILE, 0, 0);
  put_hex((u64)-error);
  put_hex(count_in("/proc/modules", " Live ", 1 << 20));
  end();
}

static void trace(void) {
  sys(MKDIR, (s64) "/t", 0755, 0, 0, 0);
  s64 mounted = sys(MOUNT, (s64) "t", (s64) "/t", (s64) "tracefs", 0, 0);
  begin("mounted");
  put_hex((u64)-mounted);
  end();

  write_file("/t/set_ftrace_filter", "vfs_write");
  s64 tracer = write_file("/t/current_tracer", "function");
  for (int i = 0; i < 5; i++) write_file("/proc/self/comm", "traced");
  write_file("/t/tracing_on", "0");
  u64 calls = count_in("/t/trace", ": vfs_write <-", 1 << 22);
  /* Now each call site of the kernel, there and back; with nothing recorded, which on a slow machine would take all the time that there is. */
  write_file("/t/current_tracer", "nop");
  write_file("/t/set_ftrace_filter", "");
  s64 all = write_file("/t/current_tracer", "function");
  for (int i = 0; i < 5; i++) write_file("/proc/self/comm", "traced");
  write_file("/t/current_tracer", "nop");
  begin("functions");
  put_hex(tracer < 0 ? (u64)-tracer : 0);
  put_hex(all < 0 ? (u64)-all : 0);
  put_hex(calls);
  end();

  write_file("/t/tracing_on", "1");
  s64 added = write_file("/t/kprobe_events", "p:kslide do_sys_openat2+0x0");
  s64 on = write_file("/t/events/kprobes/kslide/enable", "1");
  for (int i = 0; i < 3; i++) sys(CLOSE, open_file("/proc/self/comm", O_RDONLY), 0, 0, 0, 0);
  write_file("/t/events/kprobes/kslide/enable", "0");
  u64 hits = count_in("/t/trace", "kslide: (do_sys_openat2+0x0", 1 << 22);
  begin("kprobe");
  put_hex(added < 0 ? (u64)-added : 0);
  put_hex(on < 0 ? (u64)-on : 0);
  put_hex(hits);
  end();

  s64 key = write_file("/t/events/sched/sched_switch/enable", "1");
  s64 pause[2] = {0, 20000000};
  for (int i = 0; i < 5; i++) sys(NANOSLEEP, (s64)pause, 0, 0, 0, 0);
  write_file("/t/events/sched/sched_switch/enable", "0");
  u64 switches = count_in("/t/trace", "sched_switch:", 1 << 22);
  s64 stats = write_file("/proc/sys/kernel/sched_schedstats", "1");
  write_file("/proc/sys/kernel/sched_schedstats", "0");
  begin("events");
  put_hex(key < 0 ? (u64)-key : 0);
  put_hex(stats < 0 ? (u64)-stats : 0);
  put_hex(switches > 5 ? 5 : switches);
  end();
}

void start(void) {
  console = open_file("/dev/ttyS0", O_RDWR | O_NOCTTY);
  if (console < 0) console = 1;
  sys(MOUNT, (s64) "proc", (s64) "/proc", (s64) "proc", 0, 0);
  write_file("/proc/sys/kernel/printk", "1");
  kallsyms();
  bad_pointers();
  module();
  trace();
  u64 mask = 0;
  sys(AFFINITY, 0, sizeof mask, (s64)&mask, 0, 0);
  begin("cpus");
  put_hex(mask);
  end();
  begin("end");
  end();
  /* What another CPU still sends, the panic's own lines would mix with. */
  sys(IOCTL, console, TCSBRK, 1, 0, 0);
  write_file("/proc/sys/kernel/printk", "7");
  write_file("/proc/sysrq-trigger", "c");
  begin("sysrq did nothing");
  end();
  for (;;) sys(NANOSLEEP, (s64) "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: and $-16, %rsp\n call start\n");
