import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { SpeculationMetrics } from '../../../worker/telemetry/speculation-metrics.ts';

describe('SpeculationMetrics', () => {
  it('counts by proposer, and accepted tokens by their place', async () => {
    const registry = new Registry();
    const metrics = new SpeculationMetrics(registry);
    const draft = { proposer: 'draft', numDrafts: 2, numDraftTokens: 5 };
    metrics.add([{ ...draft, numAcceptedPerPosition: [2, 1, 0] }]);
    metrics.add([{ ...draft, numAcceptedPerPosition: [1] }]);

    const text = await registry.metrics();
    expect(text).toContain('spec_decode_num_drafts_total{proposer="draft"} 4\n');
    expect(text).toContain('spec_decode_num_draft_tokens_total{proposer="draft"} 10\n');
    expect(text).toContain('spec_decode_num_accepted_tokens_total{proposer="draft"} 4\n');
    const perPosition = 'spec_decode_num_accepted_tokens_per_pos_total{proposer="draft",position=';
    expect(text).toContain(`${perPosition}"0"} 3\n`);
    expect(text).toContain(`${perPosition}"1"} 1\n`);
  });
});
