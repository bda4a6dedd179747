/*
 * What the decompressors' sources use of the kernel's headers, for user space on a little-endian machine with 64 bits. All the headers that
 * build-decompressors-judge.sh makes lead here.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <limits.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64; typedef int64_t s64; typedef int32_t s32;
typedef int16_t s16; typedef int8_t s8;
typedef u8 __u8; typedef u16 __u16; typedef u32 __u32; typedef u64 __u64;
typedef u16 __le16; typedef u32 __le32; typedef u64 __le64; typedef u32 __be32; typedef u16 __be16;
typedef unsigned char Byte; typedef unsigned long uLong; typedef unsigned int uInt;
typedef long ssize_t; typedef unsigned long ulong; typedef unsigned int uint;
#define __init
#define __always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))
#define __maybe_unused __attribute__((unused))
#define __packed __attribute__((packed))
#define __force
#define __attribute_const__
#define fallthrough __attribute__((fallthrough))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define min_t(t, a, b) ((t)(a) < (t)(b) ? (t)(a) : (t)(b))
#define max_t(t, a, b) ((t)(a) > (t)(b) ? (t)(a) : (t)(b))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define EXPORT_SYMBOL(x)
#define EXPORT_SYMBOL_GPL(x)
#define MODULE_LICENSE(x)
#define MODULE_DESCRIPTION(x)
#define GFP_KERNEL 0
#define BITS_PER_LONG 64
#define U32_MAX UINT32_MAX
#define BUILD_BUG_ON(x)
#define WARN_ON(x) (x)
#define printk(...)
#define PTR_ALIGN(p, a) ((typeof(p))(((unsigned long)(p) + (a) - 1) & ~((unsigned long)(a) - 1)))
#define ALIGN(x, a) (((x) + (a) - 1) & ~((typeof(x))(a) - 1))
extern void *memcpy(void *, const void *, unsigned long);
extern void *memset(void *, int, unsigned long);
extern int memcmp(const void *, const void *, unsigned long);
#define le32_to_cpup(p) (*(const u32 *)(p))
#define le32_to_cpu(x) (x)
#define le64_to_cpu(x) (x)
#define le16_to_cpu(x) (x)
#define cpu_to_le32(x) (x)
#define cpu_to_le64(x) (x)
#define swab32(x) __builtin_bswap32(x)
#define swab64(x) __builtin_bswap64(x)
#define GET(n, t) static inline t get_unaligned_le##n(const void *p) { t v; __builtin_memcpy(&v, p, sizeof v); return v; } \
  static inline t get_unaligned_be##n(const void *p) { return __builtin_bswap##n(get_unaligned_le##n(p)); } \
  static inline void put_unaligned_le##n(t v, void *p) { __builtin_memcpy(p, &v, sizeof v); } \
  static inline void put_unaligned_be##n(t v, void *p) { put_unaligned_le##n(__builtin_bswap##n(v), p); }
GET(16, u16) GET(32, u32) GET(64, u64)
#define get_unaligned(p) ({ typeof(*(p)) v__; __builtin_memcpy(&v__, (p), sizeof v__); v__; })
#define put_unaligned(v, p) ({ typeof(*(p)) v__ = (v); __builtin_memcpy((p), &v__, sizeof v__); })
#define DIV_ROUND_UP(a, b) (((a) + (b) - 1) / (b))
#define IS_ENABLED(x) 1
#define EINVAL 22
#define CRC32_POLY_LE 0xedb88320
#define CRC32_POLY_BE 0x04c11db7
static inline u64 div_u64_rem(u64 a, u32 b, u32 *r) { *r = a % b; return a / b; }
static inline u64 div_u64(u64 a, u32 b) { return a / b; }
