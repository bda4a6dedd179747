/*
 * The peer of bench/apply-slide.ts: a relocation table applied as the kernel's own code applies it, backwards through the three lists, each ended
 * by a zero. Prints nanoseconds a relocation for each round, one a line, and writes the image as it is after the last.
 *
 *     apply-slide IMAGE BASE TABLE SLIDE ROUNDS OUT [fresh]
 *
 * fresh: each round has a copy of the image that nothing has touched since it was copied, as a launcher has it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *slurp(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		exit(2);
	fseek(file, 0, SEEK_END);
	*size = (size_t)ftell(file);
	rewind(file);
	void *bytes = malloc(*size);
	if (!bytes || fread(bytes, 1, *size, file) != *size)
		exit(2);
	fclose(file);
	return bytes;
}

static void relocate(unsigned char *image, uint64_t base, const int32_t *end, int lists, uint64_t slide)
{
	/* Where a link address lies: the map's start is -2 GiB. */
	const uint64_t origin = UINT64_C(0xffffffff80000000) + base;
	const int32_t *entry = end - 1;

	for (; *entry; entry--)
		*(uint32_t *)(image + ((uint64_t)(int64_t)*entry - origin)) += (uint32_t)slide;
	if (lists == 3)
		for (entry--; *entry; entry--)
			*(uint32_t *)(image + ((uint64_t)(int64_t)*entry - origin)) -= (uint32_t)slide;
	for (entry--; *entry; entry--)
		*(uint64_t *)(image + ((uint64_t)(int64_t)*entry - origin)) += slide;
}

int main(int argc, char **argv)
{
	size_t image_size, table_size;
	if (argc < 7)
		return 2;
	unsigned char *original = slurp(argv[1], &image_size);
	int32_t *table = slurp(argv[3], &table_size);
	unsigned char *image = malloc(image_size);
	size_t words = table_size / 4, zeros = 0;
	for (size_t i = 0; i < words; i++)
		zeros += table[i] == 0;
	memcpy(image, original, image_size);
	for (int round = 0, rounds = atoi(argv[5]); round < rounds; round++) {
		struct timespec from, to;
		if (argc > 7)
			memcpy(image, original, image_size);
		clock_gettime(CLOCK_MONOTONIC, &from);
		relocate(image, strtoull(argv[2], 0, 0), table + words, (int)zeros, strtoull(argv[4], 0, 0));
		clock_gettime(CLOCK_MONOTONIC, &to);
		double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
		printf("%f\n", ns / (double)(words - zeros));
	}
	FILE *out = fopen(argv[6], "wb");
	return !out || fwrite(image, 1, image_size, out) != image_size || fclose(out);
}
