import { CallCosts, type MachineSpeed } from './call-costs.ts';
import type { CallCost, TargetCall } from './policy.ts';

/** Calls of a shape before what is said of it goes without doubt. */
const ENOUGH_CALLS = 3;
/**
 * What a token more is thought to cost, as a part of a call: for each row, and at most. It is less
 * than it mostly is, so that it is tried.
 */
const PRIOR_TOKEN_COST = 0.04;
const MAX_PRIOR_COST = 0.35;

/**
 * What calls of the target cost, by rows, tokens and the columns that rows are read with. Those of
 * another capacity are thought to be like those of the nearest that is known.
 */
export class TargetCosts {
  readonly #speed: MachineSpeed;
  readonly #costsByCapacity = new Map<number, CallCosts>();

  constructor(speed: MachineSpeed) {
    this.#speed = speed;
  }

  /** Whether enough such calls were measured. */
  knows(call: TargetCall): boolean {
    const costs = this.#costsByCapacity.get(call.frozenCapacity);
    return costs !== undefined && costs.numCalls(call) >= ENOUGH_CALLS;
  }

  observe(call: CallCost): void {
    this.#of(call.frozenCapacity).observe(call);
  }

  /** @returns milliseconds; `null` before any call was measured */
  estimate(call: TargetCall): number | null {
    return this.#of(call.frozenCapacity).estimate(call);
  }

  #of(frozenCapacity: number): CallCosts {
    let costs = this.#costsByCapacity.get(frozenCapacity);
    if (costs === undefined) {
      const like = this.#nearest(frozenCapacity);
      costs = new CallCosts(this.#speed, { tokenCost, like });
      this.#costsByCapacity.set(frozenCapacity, costs);
    }
    return costs;
  }

  #nearest(frozenCapacity: number): CallCosts | null {
    let nearest: CallCosts | null = null;
    let least = Infinity;
    for (const [other, costs] of this.#costsByCapacity) {
      const distance = Math.abs(Math.log(other / frozenCapacity));
      if (distance >= least) continue;
      nearest = costs;
      least = distance;
    }
    return nearest;
  }
}

function tokenCost(numRows: number): number {
  return Math.min(MAX_PRIOR_COST, PRIOR_TOKEN_COST * numRows);
}
