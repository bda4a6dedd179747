/*
 * The stub's apply step and the loop that the kernel has, on one image in memory, in turns.
 *
 *     apply-table SEGMENT START END SCRATCH MEMORY TABLE IMAGE BASE SLIDE ROUNDS OUT CPU [VENDOR LEAF1 LEAF7]
 *
 * SEGMENT is the segment that `convert` adds: parameters, program, table. It is mapped executable as it is, behind the image as in a kernel, in MEMORY bytes
 * with its scratch memory at SCRATCH, and entered at START in the state that the program is in there; at END, behind the step, a RET takes the place of
 * what follows. At CPU in the scratch memory the step finds what CPUID says: leaf 0 ECX, leaf 1 ECX, leaf 7 EBX; of this machine, unless they are given. TABLE is the kernel's own, for the loop below. IMAGE is linked at BASE. ROUNDS may be 0.
 *
 * Prints a line a round: cold or warm, nanoseconds of stub and loop, and for each whether it was disturbed (1): the kernel ran something else meanwhile. Cold: image, tables, program and its scratch memory flushed from all caches before. Warm: the same side has just run
 * three times, for as long it takes the outer caches to hold the image again after a flush: of two sides that had run once, the first behind the cold
 * rounds took 8 to 25% more, whichever it was. The sides begin by turns.
 *
 * At the end each side moves a fresh copy of the image by SLIDE; they must be the same, and OUT gets it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <cpuid.h>
#include <immintrin.h>

static size_t segment_size, segment_memory, table_size, image_size;
static const size_t huge = 2 << 20;
static unsigned char *segment, *image, *original;
static int32_t *table;
static uint64_t start, end, scratch, base;
static int lists;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static unsigned char *slurp(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		fail(path);
	fseek(file, 0, SEEK_END);
	*size = (size_t)ftell(file);
	rewind(file);
	unsigned char *bytes = malloc(*size + 1);
	if (!bytes || fread(bytes, 1, *size, file) != *size)
		fail(path);
	fclose(file);
	return bytes;
}

/* In pages of 2 MiB where there are any, as early page tables map the kernel. */
static unsigned char *place(size_t size, int protection)
{
	unsigned char *memory = mmap(NULL, size + 2 * huge, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	memory += huge - (uintptr_t)memory % huge;
	madvise(memory, size, MADV_HUGEPAGE);
	return memory;
}

/* RBP: scratch memory; R15: parameters; R13: physical slide, here where the image is minus where it is linked; R14: virtual slide. */
static __attribute__((noinline)) void stub(uint64_t slide)
{
	register uint64_t r12 __asm__("r12") = (uint64_t)segment + scratch;
	register uint64_t r13 __asm__("r13") = (uint64_t)image - base;
	register uint64_t r14 __asm__("r14") = slide;
	register uint64_t r15 __asm__("r15") = (uint64_t)segment;
	unsigned char *entry = segment + start;
	/* The red zone is the compiler's, and RBP may be. */
	__asm__ volatile("sub $128, %%rsp\n\tpush %%rbp\n\tmov %%r12, %%rbp\n\tcall *%[entry]\n\tpop %%rbp\n\tadd $128, %%rsp"
			 : [entry] "+a"(entry), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15)
			 :
			 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

/* What the decompressor does: for each u32 read backwards, sign-extend, add. */
static __attribute__((noinline)) void loop(uint64_t slide)
{
	const uint64_t map = (uint64_t)image - base + UINT64_C(0x80000000);
	const int32_t *entry = table + table_size / 4 - 1;

	for (; *entry; entry--)
		*(uint32_t *)((int64_t)*entry + map) += (uint32_t)slide;
	if (lists == 3)
		for (entry--; *entry; entry--)
			*(uint32_t *)((int64_t)*entry + map) -= (uint32_t)slide;
	for (entry--; *entry; entry--)
		*(uint64_t *)((int64_t)*entry + map) += slide;
}

static void flush(const void *memory, size_t size)
{
	for (size_t at = 0; at < size; at += 64)
		_mm_clflush((const char *)memory + at);
}

struct sample {
	double nanoseconds;
	int disturbed;
};

static long switches(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_nvcsw + usage.ru_nivcsw;
}

static struct sample measure(void (*apply)(uint64_t), uint64_t slide)
{
	struct timespec from, to;
	const long before = switches();
	_mm_mfence();
	clock_gettime(CLOCK_MONOTONIC, &from);
	apply(slide);
	_mm_mfence();
	clock_gettime(CLOCK_MONOTONIC, &to);
	const double nanoseconds = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
	return (struct sample){ nanoseconds, switches() != before };
}

static struct sample timed(void (*apply)(uint64_t), uint64_t slide, int cold)
{
	if (cold) {
		flush(image, image_size);
		flush(table, table_size);
		flush(segment, segment_memory);
		_mm_mfence();
	} else {
		for (int times = 0; times < 3; times++)
			apply(0);
	}
	return measure(apply, slide);
}

int main(int argc, char **argv)
{
	if (argc != 13 && argc != 16)
		return 2;
	unsigned char *bytes = slurp(argv[1], &segment_size);
	start = strtoull(argv[2], NULL, 0);
	end = strtoull(argv[3], NULL, 0);
	scratch = strtoull(argv[4], NULL, 0);
	segment_memory = strtoull(argv[5], NULL, 0);
	unsigned char *words = slurp(argv[6], &table_size);
	original = slurp(argv[7], &image_size);
	base = strtoull(argv[8], NULL, 0);
	const uint64_t slide = strtoull(argv[9], NULL, 0);
	if (start >= end || end >= segment_size || segment_size > scratch || scratch > segment_memory)
		return 2;

	const size_t behind = (image_size + huge - 1) / huge * huge;
	image = place(behind + segment_memory, PROT_READ | PROT_WRITE | PROT_EXEC);
	segment = image + behind;
	memcpy(image, original, image_size);
	memcpy(segment, bytes, segment_size);
	segment[end] = 0xc3;
	/* What is written here and in the entropy step of the program must agree. */
	uint32_t cpu[3] = { 0, 0, 0 }, unused;
	for (int i = 0; i < 3 && argc == 16; i++)
		cpu[i] = (uint32_t)strtoull(argv[13 + i], NULL, 0);
	if (argc == 13) {
		__get_cpuid(0, &unused, &unused, &cpu[0], &unused);
		__get_cpuid(1, &unused, &unused, &cpu[1], &unused);
		__get_cpuid_count(7, 0, &unused, &cpu[2], &unused, &unused);
	}
	memcpy(segment + scratch + strtoull(argv[12], NULL, 0), cpu, sizeof cpu);
	table = (int32_t *)place(table_size, PROT_READ | PROT_WRITE);
	memcpy(table, words, table_size);
	for (size_t i = 0; i < table_size / 4; i++)
		lists += table[i] == 0;

	for (int round = 0, rounds = atoi(argv[10]); round < rounds; round++)
		for (int cold = 0; cold < 2; cold++) {
			/* Back and forth, so that nothing wanders. */
			const uint64_t step = round % 2 ? -slide : slide;
			struct sample ours = { 0 }, theirs = { 0 };
			for (int turn = 0; turn < 2; turn++)
				if ((turn + round / 2) % 2)
					theirs = timed(loop, -step, cold);
				else
					ours = timed(stub, step, cold);
			printf("%s %.0f %.0f %d %d\n", cold ? "cold" : "warm", ours.nanoseconds, theirs.nanoseconds,
			       ours.disturbed, theirs.disturbed);
		}

	memcpy(image, original, image_size);
	loop(slide);
	unsigned char *expected = malloc(image_size);
	if (!expected)
		fail("malloc");
	memcpy(expected, image, image_size);
	memcpy(image, original, image_size);
	stub(slide);
	if (memcmp(expected, image, image_size) != 0) {
		fprintf(stderr, "the two sides made different images\n");
		return 1;
	}
	FILE *file = fopen(argv[11], "wb");
	if (!file || fwrite(image, 1, image_size, file) != image_size || fclose(file) != 0)
		fail(argv[11]);
	return 0;
}
