/** Bins of cumulative probability, and drafts that each remembers. */
const NUM_BINS = 10;
const MEMORY = 100;
/** How many drafts the draft model's own word counts for. */
const PRIOR_DRAFTS = 4;
/** Never so strict that hardly a draft gets past its first token. */
const MAX_THRESHOLD = 0.9;

/**
 * When to stop drafting: once the probability that all tokens drafted so far are accepted falls
 * under a threshold. That probability is the draft model's own, corrected by how its drafts fared;
 * the threshold is what another token must be worth to pay for itself.
 *
 * Huang, Guo, Wang, "SpecDec++", arXiv:2405.19715, theorem 3.1: a threshold on the probability of a
 * rejection is the optimal rule.
 */
export class DraftThreshold {
  readonly #accepted = new Float64Array(NUM_BINS);
  readonly #trials = new Float64Array(NUM_BINS);
  #threshold = 0;

  get threshold(): number {
    return this.#threshold;
  }

  /**
   * Sets what a further token of one draft costs and brings.
   *
   * @param gainMs what an accepted token saves
   * @param acceptance how likely it is, if all before it are
   */
  price({
    costMs,
    gainMs,
    acceptance,
  }: {
    costMs: number;
    gainMs: number;
    acceptance: number;
  }): void {
    const threshold = costMs / Math.max(gainMs * acceptance, 1e-9);
    this.#threshold = Math.min(MAX_THRESHOLD, Math.max(0, threshold));
  }

  /** Whether to draft another token behind those of this probability. */
  goesOn(cumulativeProbability: number): boolean {
    return this.acceptanceOf(cumulativeProbability) >= this.#threshold;
  }

  /** How likely a draft of this probability is accepted as a whole. */
  acceptanceOf(cumulativeProbability: number): number {
    // Between the middles of two bins, in proportion.
    const place = Math.max(0, Math.min(NUM_BINS - 1, cumulativeProbability * NUM_BINS - 0.5));
    const below = Math.floor(place);
    const part = place - below;
    const above = Math.min(NUM_BINS - 1, below + 1);
    return (1 - part) * this.#rate(below) + part * this.#rate(above);
  }

  #rate(bin: number): number {
    const said = (bin + 0.5) / NUM_BINS;
    return (this.#accepted[bin]! + PRIOR_DRAFTS * said) / (this.#trials[bin]! + PRIOR_DRAFTS);
  }

  /** @param cumulativeProbabilities [numDrafted], of each drafted token and those before it */
  observe(cumulativeProbabilities: readonly number[], numAccepted: number): void {
    for (const [i, probability] of cumulativeProbabilities.entries()) {
      const bin = Math.max(0, Math.min(NUM_BINS - 1, Math.floor(probability * NUM_BINS)));
      const decay = 1 - 1 / MEMORY;
      this.#accepted[bin] = this.#accepted[bin]! * decay + (i < numAccepted ? 1 : 0);
      this.#trials[bin] = this.#trials[bin]! * decay + 1;
    }
  }
}
