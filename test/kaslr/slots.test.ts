import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KERNEL_IMAGE_SIZE } from '../../src/base/addresses.ts';
import { KernelImageError } from '../../src/base/errors.ts';
import { entropyBits, largestSlide, slotsOf } from '../../src/kaslr/slots.ts';

test('the last slot ends the image at or below KERNEL_IMAGE_SIZE, and one more would not', () => {
  for (const imageEnd of [0x420_0000, 0x4a0_0000, 0x42_0001, 0x3fff_ffff, KERNEL_IMAGE_SIZE]) {
    for (const align of [0x20_0000, 0x40_0000, 0x100_0000]) {
      const slots = slotsOf({ imageEnd, limit: KERNEL_IMAGE_SIZE, align });
      assert.ok(imageEnd + largestSlide(slots) <= KERNEL_IMAGE_SIZE);
      assert.ok(imageEnd + largestSlide(slots) + align > KERNEL_IMAGE_SIZE);
    }
  }
});

test('as many as the kernel would have: 480 for an image that ends at 66 MiB', () => {
  // 1 + (1 GiB − 16 MiB − 50 MiB) / 2 MiB
  const slots = slotsOf({ imageEnd: 0x420_0000, limit: KERNEL_IMAGE_SIZE });
  assert.equal(slots.count, 480);
  assert.equal(entropyBits(slots).toFixed(2), '8.91');
});

test('an alignment that no kernel has is refused', () => {
  for (const align of [0, 1, 0x10_0000, 0x30_0000, 0x8000_0000]) {
    assert.throws(
      () => slotsOf({ imageEnd: 0x420_0000, limit: KERNEL_IMAGE_SIZE, align }),
      (error: KernelImageError) =>
        /alignment of slides is 0x[0-9a-f]+, expected a power of two from 2 MiB to 1 GiB/.test(error.message),
    );
  }
});
