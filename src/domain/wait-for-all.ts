/**
 * As `Promise.all`, but settles only when every task has: after a failure nothing goes on behind the back of a
 * caller who then gives back what the tasks use.
 */
export async function waitForAll<T>(tasks: Iterable<Promise<T> | T>): Promise<T[]> {
  const outcomes = await Promise.allSettled(tasks);
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  });
}
