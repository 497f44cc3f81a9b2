"""The recipes of docs/browser.md, unchanged, with their frameworks."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from .bundled import MODULES, WEB, bundle, node, shown_in
from .chromium import Page, expect
from .served import Served
from .site import serve_site

documented_code = partial(shown_in, "docs/browser.md")

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>An application</title>
{body}
</html>
"""
ROOT = '<main id="root"></main><script type="module" src="/app.js"></script>'
VUE = """
import {{ createApp, h, ref }} from 'vue';
import {{ configure }} from 'progress-gateway';
import {{ useJob }} from './recipe.js';

configure({{ gateway: '{gateway}' }});
const job = ref('video:42');
const Bar = {{
  setup() {{
    const progress = useJob(job);
    return () => {{
      const {{ percent, message }} = progress.value;
      return h('progress', {{ max: 100, value: percent, title: message }});
    }};
  }},
}};
const App = {{
  setup: () => () => [h('button', {{ onClick: () => (job.value = 'video:43') }}, 'next'), h(Bar)],
}};
createApp(App).mount('#root');
"""
VUE_FLAGS = (
    "--define:__VUE_OPTIONS_API__=false",
    "--define:__VUE_PROD_DEVTOOLS__=false",
    "--define:__VUE_PROD_HYDRATION_MISMATCH_DETAILS__=false",
)
"""Vue warns if a bundler does not define these."""
SVELTE = """
import {{ mount }} from 'svelte';
import {{ configure }} from 'progress-gateway';
import App from './App.js';

configure({{ gateway: '{gateway}' }});
mount(App, {{ target: document.getElementById('root') }});
"""
SVELTE_APP = """
<script>
  import Recipe from './recipe.js';
  let job = $state('video:42');
</script>
<button onclick={() => (job = 'video:43')}>next</button>
<Recipe {job} />
"""
VUE_ON_SERVER = """
import { createSSRApp, h } from 'vue';
import { renderToString } from 'vue/server-renderer';
import 'progress-gateway/element';
import { useJob } from './recipe.js';

const App = {
  setup() {
    const progress = useJob('video:42');
    return () => h('p', [progress.value.status, h('job-progress', { job: 'video:42' })]);
  },
};
renderToString(createSSRApp(App)).then((html) => process.stdout.write(html));
"""
SVELTE_ON_SERVER = """
import { render } from 'svelte/server';
import 'progress-gateway/element';
import Recipe from './recipe.js';

process.stdout.write(render(Recipe, { props: { job: 'video:42' } }).body);
"""
REACT = """
import {{ createRoot }} from 'react-dom/client';
{recipe}
configure({{ gateway: '{gateway}' }});
createRoot(document.getElementById('root')).render(<><Video job="video:42" /><Connection /></>);
"""


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """Where an application's files lie; it has installed the client's package."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "progress-gateway").symlink_to(WEB, target_is_directory=True)
    return tmp_path


def serve_application(entry: Path, *options: str) -> AbstractContextManager[str]:
    script = bundle(entry, "--format=esm", *options)
    return serve_site(PAGE.format(body=ROOT), scripts={"/app.js": script})


def follow_both_jobs(page: Page, served: Served, site: str) -> None:
    """Checks that the bar shows a job as it goes, and then the other one that the page turns to."""
    served.report("video:42", percent=37, message="encoding")
    served.report("video:43", percent=5)
    page.goto(site)
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("value", "37")
    expect(bar).to_have_attribute("title", "encoding")
    served.report("video:42", percent=80)
    expect(bar).to_have_attribute("value", "80")

    page.get_by_role("button", name="next").click()
    expect(bar).to_have_attribute("value", "5")
    served.report("video:43", percent=6)
    expect(bar).to_have_attribute("value", "6")


def test_the_vue_recipe_works(page: Page, served: Served, application: Path) -> None:
    (application / "recipe.js").write_text(documented_code("Vue", "js"))
    entry = application / "entry.js"
    entry.write_text(VUE.format(gateway=f"{served.url}/ws"))
    with serve_application(entry, *VUE_FLAGS) as site:
        follow_both_jobs(page, served, site)


def compile_svelte(component: str, generate: str = "client") -> str:
    return node(
        f"""
        import {{ compile }} from 'svelte/compiler';
        const {{ js, warnings }} = compile({json.dumps(component)}, {{ generate: '{generate}' }});
        if (warnings.length > 0) throw new Error(warnings.join('\\n'));
        process.stdout.write(js.code);
        """,
        "--input-type=module",
    )


def test_the_svelte_recipe_works(page: Page, served: Served, application: Path) -> None:
    (application / "recipe.js").write_text(compile_svelte(documented_code("Svelte", "svelte")))
    (application / "App.js").write_text(compile_svelte(SVELTE_APP))
    entry = application / "entry.js"
    entry.write_text(SVELTE.format(gateway=f"{served.url}/ws"))
    with serve_application(entry) as site:
        follow_both_jobs(page, served, site)


@pytest.mark.parametrize("framework", ["vue", "svelte"])
def test_the_recipe_renders_on_a_server(application: Path, framework: str) -> None:
    entry = application / "entry.js"
    if framework == "vue":
        (application / "recipe.js").write_text(documented_code("Vue", "js"))
        entry.write_text(VUE_ON_SERVER)
        expected = '<p>unknown<job-progress job="video:42"></job-progress></p>'
    else:
        (application / "recipe.js").write_text(
            compile_svelte(documented_code("Svelte", "svelte"), "server")
        )
        entry.write_text(SVELTE_ON_SERVER)
        expected = "<progress"
    html = node(bundle(entry, "--platform=node", "--format=cjs", *VUE_FLAGS))
    assert expected in html


def test_the_react_recipe_works(page: Page, served: Served, application: Path) -> None:
    recipe = re.sub(r"(?m)^configure\(.*\n", "", documented_code("React", "jsx"))
    entry = application / "entry.jsx"
    entry.write_text(REACT.format(recipe=recipe, gateway=f"{served.url}/ws"))
    served.report("video:42", percent=37, phase="encode")
    with serve_application(entry) as site:
        page.goto(site)
        expect(page.get_by_role("progressbar", name="encode")).to_have_attribute("value", "37")
        served.report("video:42", status="failed", error="disk full")
        expect(page.get_by_role("alert")).to_have_text("disk full")


def test_the_htmx_recipe_works(page: Page, served: Served) -> None:
    recipe = documented_code("htmx, or no framework", "html")
    answer = re.search(r"<!-- the answer: (.*) -->", recipe)
    assert answer is not None
    end = documented_code("htmx, or no framework", "js")
    body = f'<script src="/htmx.js"></script>{recipe}<script type="module">{end}</script>'
    served.report("video:42", percent=37)
    with serve_site(
        PAGE.format(body=body.replace("https://progress.example", served.url)),
        scripts={"/htmx.js": htmx()},
        parts={"/videos/42/encode": answer[1], "/videos": "<li>Your video</li>"},
    ) as site:
        page.goto(site)
        page.get_by_role("button", name="Encode").click()
        bar = page.get_by_role("progressbar", name="Your video")
        expect(bar).to_have_attribute("aria-valuenow", "37")
        expect(page.get_by_role("listitem")).to_have_count(0)
        served.report("video:42", status="succeeded")
        expect(page.get_by_text("Succeeded", exact=True)).to_be_visible()
        expect(page.get_by_role("listitem")).to_have_text("Your video")


def htmx() -> str:
    script = MODULES / "htmx.org" / "dist" / "htmx.min.js"
    if not script.exists():
        pytest.skip("needs the client's development packages: cd web && npm install")
    return script.read_text()
