// The console's page: its tabs, and which of them is drawn. A view is a module that
// exports draw, whose answer is the elements of main, a h1 among them. What clients have
// sent reaches the page as text nodes only.
import { element, failure, request } from './dom.js';

const main = document.getElementById('main');
const nav = document.getElementById('views');
let views = []; // that the server offers
let left = new AbortController(); // aborts when another view is drawn

async function draw() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  const view = views.find((v) => v.name === name);
  if (!view) return location.replace(`#/${views[0].name}`);
  left.abort();
  const { signal } = left = new AbortController();
  for (const link of nav.children) {
    if (link.hash === `#/${name}`) link.setAttribute('aria-current', rest.length ? 'true' : 'page');
    else link.removeAttribute('aria-current');
  }
  main.setAttribute('aria-busy', 'true');
  let drawn;
  try {
    const module = await import(`./${name}.js`);
    drawn = await module.draw({ path: rest.map(decodeURIComponent), query: new URLSearchParams(query), redraw: draw, signal });
  } catch (error) {
    drawn = [element('h1', {}, view.title), failure(error)];
  }
  if (signal.aborted) return;
  main.removeAttribute('aria-busy');
  main.replaceChildren(...drawn);
  document.title = `${main.querySelector('h1').textContent} · Postern console`;
}

addEventListener('hashchange', async () => {
  await draw();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});

document.querySelector('.skip').addEventListener('click', (event) => { // the address stays the view's
  event.preventDefault();
  main.focus();
});

try {
  views = await request('views');
  nav.replaceChildren(...views.map(({ name, title }) => element('a', { href: `#/${name}` }, title)));
  await draw();
} catch (error) {
  main.replaceChildren(failure(error));
}
