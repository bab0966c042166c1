/**
 * Columns whose reading costs about as much as another call of the model. A call reads all weights,
 * a column its keys and values: for the usual shapes that is some thousands to one.
 */
export const CALL_COST_COLUMNS = 4096;

/** A relocation copies whole rows, so rows move only for a plan this much cheaper than staying. */
const MOVE_MARGIN = 1.2;

/**
 * Decides the frozen capacity of each row's bank. Rows of one bank are read in one call and all pay
 * for its capacity: a bank more costs a call, a bank fewer makes short rows read columns that they
 * do not need.
 *
 * With fifteen rows that need 64 columns and one that needs 4096, two banks: 15 x 64 + 4096 + a
 * call is less than 16 x 4096. With one row each of 64 and 128, one bank of 128.
 *
 * @param needed least capacity of each row, powers of two times the block size
 * @returns a capacity for each row, one of those needed and no less than its own
 */
export function planBanks(needed: readonly number[]): number[] {
  const levels = [...new Set(needed)].sort((a, b) => a - b);
  const counts = levels.map((level) => needed.filter((capacity) => capacity === level).length);

  // costs[i]: the least cost of the rows of the first i levels; starts[i]: where their last bank
  // begins.
  const costs = [0];
  const starts = [0];
  for (let end = 1; end <= levels.length; end += 1) {
    let best = Infinity;
    let bestStart = 0;
    let numRows = 0;
    for (let start = end - 1; start >= 0; start -= 1) {
      numRows += counts[start]!;
      const cost = costs[start]! + CALL_COST_COLUMNS + numRows * levels[end - 1]!;
      if (cost < best) {
        best = cost;
        bestStart = start;
      }
    }
    costs.push(best);
    starts.push(bestStart);
  }

  const capacityByLevel = new Map<number, number>();
  for (let end = levels.length; end > 0; end = starts[end]!) {
    for (let i = starts[end]!; i < end; i += 1) capacityByLevel.set(levels[i]!, levels[end - 1]!);
  }
  return needed.map((capacity) => capacityByLevel.get(capacity)!);
}

/** What a step costs with rows in banks of these capacities, in columns. */
export function planCost(capacities: readonly number[]): number {
  const numBanks = new Set(capacities).size;
  return capacities.reduce((sum, capacity) => sum + capacity, numBanks * CALL_COST_COLUMNS);
}

/** Whether rows should move from `current` capacities to `planned` ones. */
export function isWorthMoving(current: readonly number[], planned: readonly number[]): boolean {
  return planCost(current) > MOVE_MARGIN * planCost(planned);
}
