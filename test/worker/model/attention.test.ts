import { describe, expect, it } from 'vitest';
import { planThreads } from '../../../worker/model/attention.ts';
import { parseConfig } from '../../../worker/model/config.ts';
import { CONFIGS } from '../../support/architectures.ts';

describe('planThreads', () => {
  it.each([
    { heads: 6, kvHeads: 2, threads: 2, groupParts: 1, numThreads: 2 },
    { heads: 6, kvHeads: 2, threads: 4, groupParts: 3, numThreads: 4 },
    { heads: 24, kvHeads: 2, threads: 4, groupParts: 2, numThreads: 4 },
    { heads: 6, kvHeads: 2, threads: 64, groupParts: 3, numThreads: 6 },
    { heads: 6, kvHeads: 6, threads: 8, groupParts: 1, numThreads: 6 },
    { heads: 6, kvHeads: 1, threads: 8, groupParts: 1, numThreads: 1 },
  ])('of $heads heads over $kvHeads and $threads threads makes $groupParts parts', (row) => {
    const json = { num_attention_heads: row.heads, num_key_value_heads: row.kvHeads, head_dim: 2 };
    const config = parseConfig({ ...CONFIGS['llama, grouped heads'], ...json }, 'config.json');
    const { groupParts, numThreads } = row;
    expect(planThreads(config, row.threads)).toEqual({ groupParts, numThreads });
  });
});
