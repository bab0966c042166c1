import type { TenantId, TokenId } from '../../shared/ids.ts';
import type { OutputStore } from './output-store.ts';
import type { LookupLimits, Proposal } from './proposer.ts';
import type { OutputPlace, TenantOutputs } from './tenant-outputs.ts';

/** Where one sequence stands in the outputs of its tenant, as both go on. */
export class OutputCursor {
  readonly #store: OutputStore;
  readonly #tenant: TenantId;
  #outputs: TenantOutputs | null = null;
  #version = 0;
  #numTokens = 0;
  #place: OutputPlace | null = null;

  constructor(store: OutputStore, tenant: TenantId) {
    this.#store = store;
    this.#tenant = tenant;
  }

  /**
   * @param tokenIds the sequence's latest tokens, as far as they are known
   * @param numTokens all that there ever were, which says how many of them are new
   * @returns `null` when no suffix of `minMatch` tokens occurs in the tenant's outputs
   */
  propose(tokenIds: readonly TokenId[], numTokens: number, limits: LookupLimits): Proposal | null {
    const outputs = this.#store.outputsOf(this.#tenant);
    if (outputs === null) return null;
    const isSame = this.#outputs === outputs && this.#version === outputs.version;
    const numNew = numTokens - this.#numTokens;
    const known = isSame && numNew <= outputs.maxMatch ? this.#place : null;
    let place = known ?? outputs.find(tokenIds);
    if (known !== null) {
      for (let i = tokenIds.length - numNew; i < tokenIds.length; i += 1) {
        place = outputs.follow(place, tokenIds[i]!);
      }
    }
    this.#place = place;
    this.#outputs = outputs;
    this.#version = outputs.version;
    this.#numTokens = numTokens;
    return outputs.propose(place, limits);
  }
}
