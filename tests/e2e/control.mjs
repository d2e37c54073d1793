/** Returns how a scenario has the test do something, such as to cut the network. */
export const control = (url) => async (action) => {
  const response = await fetch(`${url}/${action}`, { method: 'POST' });
  if (!response.ok) {
    throw new Error(await response.text());
  }
};
