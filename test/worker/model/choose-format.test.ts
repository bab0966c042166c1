import { describe, expect, it } from 'vitest';
import { fastest } from '../../../worker/model/choose-format.ts';

describe('fastest', () => {
  it('is the format with the least mean ratio over the calls', () => {
    const times = { fp32: [10, 100, 20], int8: [5, 40, 9], q8: [3, 90, 18] };

    expect(
      fastest(
        new Map([
          ['fp32', times.fp32],
          ['int8', times.int8],
          ['q8', times.q8],
        ]),
      ),
    ).toBe('int8');
    expect(
      fastest(
        new Map([
          ['fp32', times.fp32],
          ['q8', times.q8],
        ]),
      ),
    ).toBe('q8');
  });

  it('is fp32 when rounding saves less than a tenth', () => {
    expect(
      fastest(
        new Map([
          ['fp32', [10, 100, 20]],
          ['int8', [9.5, 90, 19]],
        ]),
      ),
    ).toBe('fp32');
    expect(fastest(new Map([['fp32', [10, 100, 20]]]))).toBe('fp32');
  });

  it('lets no long call outweigh the short ones', () => {
    const times = new Map([
      ['fp32', [1, 1000, 1]],
      ['int8', [2, 700, 2]],
    ] as const);

    expect(fastest(times)).toBe('fp32');
  });
});
