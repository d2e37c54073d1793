// The console's page: routes, and what the views share. What clients have sent
// reaches the page as text nodes only.
import { list } from './list.js';
import { write } from './write.js';
import { element, failure } from './dom.js';

const main = document.getElementById('main');
let latest = 0; // the navigation that may draw

async function draw() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [view, id] = path.split('/');
  if (view === 'main') return; // the link that skips to the content
  if (view !== 'rejected') return location.replace('#/rejected');
  const mine = ++latest;
  document.getElementById('nav-rejected').setAttribute('aria-current', id ? 'true' : 'page');
  main.setAttribute('aria-busy', 'true');
  let drawn;
  try {
    drawn = id ? await write(decodeURIComponent(id), draw) : await list(new URLSearchParams(query));
  } catch (error) {
    drawn = [element('h1', {}, 'Rejected writes'), failure(error)];
  }
  if (mine !== latest) return;
  main.removeAttribute('aria-busy');
  main.replaceChildren(...drawn);
  document.title = `${main.querySelector('h1').textContent} · Postern console`;
}

addEventListener('hashchange', async () => {
  await draw();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
draw();
