import { Counter, type Registry } from 'prom-client';
import type { ProposerStats } from '../../shared/protocol/event.ts';

/** What was drafted and kept, under the names that other servers count it by, and by proposer. */
export class SpeculationMetrics {
  readonly #drafts: Counter;
  readonly #draftTokens: Counter;
  readonly #accepted: Counter;
  readonly #acceptedPerPosition: Counter;

  constructor(registry: Registry) {
    const counter = (name: string, help: string, ...labelNames: string[]) =>
      new Counter({ name, help, labelNames: ['proposer', ...labelNames], registers: [registry] });
    this.#drafts = counter('spec_decode_num_drafts_total', 'Drafts that were verified');
    this.#draftTokens = counter('spec_decode_num_draft_tokens_total', 'Tokens of those drafts');
    this.#accepted = counter('spec_decode_num_accepted_tokens_total', 'Of those, accepted ones');
    this.#acceptedPerPosition = counter(
      'spec_decode_num_accepted_tokens_per_pos_total',
      'Accepted tokens by their place in the draft, from 0',
      'position',
    );
  }

  add(stats: readonly ProposerStats[]): void {
    for (const { proposer, numDrafts, numDraftTokens, numAcceptedPerPosition } of stats) {
      this.#drafts.inc({ proposer }, numDrafts);
      this.#draftTokens.inc({ proposer }, numDraftTokens);
      for (const [position, count] of numAcceptedPerPosition.entries()) {
        this.#accepted.inc({ proposer }, count);
        this.#acceptedPerPosition.inc({ proposer, position }, count);
      }
    }
  }
}
