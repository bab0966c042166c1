/** An iterator whose first `next` is already under way, as something to loop over. */
export async function* continued<Value>(
  first: Promise<IteratorResult<Value>>,
  iterator: AsyncIterator<Value>,
): AsyncGenerator<Value> {
  for (let result = await first; !result.done; result = await iterator.next()) yield result.value;
}
