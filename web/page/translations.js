/**
 * The page's own texts, in the language of the browser (or `?lang=de`). The texts about a job are in
 * `src/language.js`. The code contains the English texts, which are the keys here; a text without a translation
 * stays English.
 */

import { fill } from '../src/language.js';
import { configure } from '../src/settings.js';

/** @type {Record<string, Record<string, string>>} */
export const TRANSLATIONS = {
  de: {
    'Connecting': 'Verbindet', 'Live': 'Live', 'Stale': 'Veraltet', 'Offline': 'Offline', 'Stopped': 'Angehalten',
    'Connected': 'Verbunden', 'Not connected': 'Nicht verbunden', 'The gateway may be out of date': 'Das Gateway ist vielleicht nicht auf dem Stand',
    'Connection': 'Verbindung', 'Connection log': 'Verbindungsprotokoll', 'Connect now': 'Jetzt verbinden', 'Copy as text': 'Als Text kopieren', 'Copied': 'Kopiert',
    'The browser does not allow it': 'Der Browser erlaubt es nicht', 'Copy': 'Kopieren', 'Close': 'Schließen',
    'Error': 'Fehler', 'Data': 'Daten', 'History': 'Verlauf', 'Time': 'Zeit', 'What changed': 'Was sich änderte',
    'Jobs': 'Aufträge', 'Filter jobs': 'Aufträge filtern', 'Search jobs': 'Aufträge suchen', 'Prefix': 'Präfix', 'All jobs': 'Alle Aufträge', 'Status': 'Status', 'All': 'Alle',
    'Running': 'Läuft', 'Queued': 'Wartet', 'Stalled': 'Stockt', 'Failed': 'Fehlgeschlagen', 'Succeeded': 'Erledigt', 'Cancelled': 'Abgebrochen',
    'Active': 'Aktiv', 'Earlier': 'Früher',
    'Only the 5,000 most recently updated jobs are shown. Search for the beginning of an id to find others.': 'Nur die 5.000 zuletzt geänderten Aufträge werden gezeigt. Eine Suche nach dem Anfang der Kennung findet weitere.',
    'No jobs yet': 'Noch keine Aufträge', 'This page shows every job as soon as its worker reports. Start one in a terminal:': 'Diese Seite zeigt jeden Auftrag, sobald sein Worker etwas meldet. Einen im Terminal starten:',
    'Or see real jobs succeed, fail and get lost, on a gateway of their own:': 'Oder echte Aufträge gelingen, scheitern und verloren gehen sehen, auf einem eigenen Gateway:',
    'No job matches': 'Kein Auftrag passt', 'No job matches the chosen status, prefix and search text.': 'Kein Auftrag passt zu Status, Präfix und Suchtext.', 'Show all jobs': 'Alle Aufträge zeigen',
    'This gateway requires a token': 'Dieses Gateway verlangt ein Token', 'Its operator can create one:': 'Der Betreiber kann eines ausstellen:', 'Token': 'Token', 'Show jobs': 'Aufträge zeigen',
    'The gateway does not accept this token. It may have expired.': 'Das Gateway nimmt dieses Token nicht an. Es ist vielleicht abgelaufen.',
    'The gateway does not answer': 'Das Gateway antwortet nicht', 'The list of jobs cannot be read: {reason} Trying again every two seconds.': 'Die Liste der Aufträge lässt sich nicht lesen: {reason} Neuer Versuch alle zwei Sekunden.',
    '{n} running': '{n} laufen', '{n} stalled': '{n} stocken', '{n} lost': '{n} verloren', '{n} queued': '{n} warten', '{n} failed': '{n} fehlgeschlagen', '{n} cancelled': '{n} abgebrochen', '{n} succeeded': '{n} erledigt',
    'No children yet': 'Noch keine Teile', 'Children of {job}': 'Teile von {job}', 'Children of {job}: {text}': 'Teile von {job}: {text}',
    '{n} job matches': '{n} Auftrag passt', '{n} jobs match': '{n} Aufträge passen',
    'Attempt': 'Versuch', 'Rate': 'Tempo', 'Part of': 'Teil von', 'Created': 'Angelegt', 'Started': 'Begonnen', 'Last update': 'Letzte Meldung', 'Ended': 'Beendet', 'Duration': 'Dauer', 'Stalled after': 'Stockt nach', 'Position': 'Position',
    'Since its start at {time}': 'Seit dem Beginn um {time}', 'Since {time}': 'Seit {time}', 'Details of {job}': 'Einzelheiten zu {job}',
    'Gateway': 'Gateway', 'Node': 'Knoten', 'Transport': 'Transport', 'Round trip': 'Antwortzeit', 'Clock difference': 'Uhrenabweichung', 'Reconnects': 'Neuverbindungen', 'Violations': 'Verstöße', 'Last error': 'Letzter Fehler',
    'since {time}': 'seit {time}', 'ended {time}': 'beendet {time}', 'Progress of {job} over {time}: {text}': 'Fortschritt von {job} über {time}: {text}', '{seq} of epoch {epoch}': '{seq} in Epoche {epoch}',
    '{time} ago': 'vor {time}', 'running': 'läuft', 'queued': 'wartet', 'stalled': 'stockt', 'lost': 'verloren', 'failed': 'fehlgeschlagen', 'succeeded': 'erledigt', 'cancelled': 'abgebrochen', 'reporting again': 'meldet wieder',
    'details': 'Einzelheiten', 'attempt {n}': '{n}. Versuch', '{verb} requested': '{verb} angefragt', '{verb} requested by {sender}': '{verb} angefragt von {sender}', 'refused: {reason}': 'abgelehnt: {reason}',
    'acknowledged by the worker': 'vom Worker bestätigt', 'The last one ended with {reason}.': 'Die letzte endete mit {reason}.', 'Live for {time}. All states are current.': 'Live seit {time}. Alle Zustände sind aktuell.',
    'Connected, but the gateway is not up to date with its broker: states may be outdated.': 'Verbunden, aber das Gateway ist nicht auf dem Stand seines Brokers: Die Zustände sind vielleicht veraltet.',
    'Connecting to the gateway.': 'Verbindet mit dem Gateway.', 'Not connected. It does not retry automatically.': 'Nicht verbunden. Keine automatischen Versuche.',
    'Trying again when this page is visible.': 'Neuer Versuch, sobald diese Seite sichtbar ist.', 'Trying again in {time}.': 'Neuer Versuch in {time}.',
    '{n} pings: {min} to {max} ms': '{n} Pings: {min} bis {max} ms', 'long polling': 'Long Polling', 'Violation: {text}': 'Verstoß: {text}', 'Error: {text}': 'Fehler: {text}',
    'Switched without interruption to {transport}': 'Ohne Unterbrechung gewechselt zu {transport}', 'Switched without interruption to {transport}, node {node}': 'Ohne Unterbrechung gewechselt zu {transport}, Knoten {node}',
    'Connecting over {transport}': 'Verbindet über {transport}', 'The gateway is up to date again': 'Das Gateway ist wieder auf dem Stand', 'Live, node {node}': 'Live, Knoten {node}',
    'The gateway is not up to date with its broker': 'Das Gateway ist nicht auf dem Stand seines Brokers', 'Lost': 'Verloren', 'The response was {status}.': 'Die Antwort war {status}.',
  },
  zh: {
    'Connecting': '正在连接', 'Live': '实时', 'Stale': '可能过时', 'Offline': '离线', 'Stopped': '已停止',
    'Connected': '已连接', 'Not connected': '未连接', 'The gateway may be out of date': '网关的数据可能已过时',
    'Connection': '连接', 'Connection log': '连接日志', 'Connect now': '立即连接', 'Copy as text': '复制为文本', 'Copied': '已复制',
    'The browser does not allow it': '浏览器不允许', 'Copy': '复制', 'Close': '关闭',
    'Error': '错误', 'Data': '数据', 'History': '历史', 'Time': '时间', 'What changed': '变化',
    'Jobs': '任务', 'Filter jobs': '筛选任务', 'Search jobs': '搜索任务', 'Prefix': '前缀', 'All jobs': '所有任务', 'Status': '状态', 'All': '全部',
    'Running': '进行中', 'Queued': '排队中', 'Stalled': '停滞', 'Failed': '失败', 'Succeeded': '已完成', 'Cancelled': '已取消',
    'Active': '活动', 'Earlier': '较早',
    'Only the 5,000 most recently updated jobs are shown. Search for the beginning of an id to find others.': '这里是最近更新的 5000 个任务。按编号开头搜索可以找到其他任务。',
    'No jobs yet': '还没有任务', 'This page shows every job as soon as its worker reports. Start one in a terminal:': '任务一有报告就会显示在这里。在终端中启动一个：',
    'Or see real jobs succeed, fail and get lost, on a gateway of their own:': '或者在独立的网关上观看真实任务成功、失败和失联：',
    'No job matches': '没有匹配的任务', 'No job matches the chosen status, prefix and search text.': '没有任务同时符合该状态、前缀和文字。', 'Show all jobs': '显示所有任务',
    'This gateway requires a token': '此网关需要令牌', 'Its operator can create one:': '由网关的管理者签发：', 'Token': '令牌', 'Show jobs': '显示任务',
    'The gateway does not accept this token. It may have expired.': '网关不接受此令牌：可能已过期。',
    'The gateway does not answer': '网关没有响应', 'The list of jobs cannot be read: {reason} Trying again every two seconds.': '无法读取任务列表：{reason} 每两秒重试一次。',
    '{n} running': '{n} 个进行中', '{n} stalled': '{n} 个停滞', '{n} lost': '{n} 个失联', '{n} queued': '{n} 个排队中', '{n} failed': '{n} 个失败', '{n} cancelled': '{n} 个已取消', '{n} succeeded': '{n} 个已完成',
    'No children yet': '还没有子任务', 'Children of {job}': '{job} 的子任务', 'Children of {job}: {text}': '{job} 的子任务：{text}',
    '{n} job matches': '{n} 个匹配的任务', '{n} jobs match': '{n} 个匹配的任务',
    'Attempt': '尝试', 'Rate': '速度', 'Part of': '属于', 'Created': '创建', 'Started': '开始', 'Last update': '最近更新', 'Ended': '结束', 'Duration': '用时', 'Stalled after': '允许静默', 'Position': '位置',
    'Since its start at {time}': '自 {time} 开始', 'Since {time}': '自 {time}', 'Details of {job}': '{job} 的详情',
    'Gateway': '网关', 'Node': '节点', 'Transport': '传输方式', 'Round trip': '往返时间', 'Clock difference': '时钟差', 'Reconnects': '重新连接', 'Violations': '违规', 'Last error': '最近的错误',
    'since {time}': '自 {time}', 'ended {time}': '结束于 {time}', 'Progress of {job} over {time}: {text}': '{job} 在 {time}内的进度：{text}', '{seq} of epoch {epoch}': '纪元 {epoch} 的第 {seq} 个', '{time} ago': '{time}前',
    'running': '进行中', 'queued': '排队中', 'stalled': '停滞', 'lost': '失联', 'failed': '失败', 'succeeded': '已完成', 'cancelled': '已取消', 'reporting again': '已恢复报告', 'details': '详情', 'attempt {n}': '第 {n} 次尝试', '{verb} requested': '已请求 {verb}',
    '{verb} requested by {sender}': '{sender} 请求 {verb}', 'refused: {reason}': '已拒绝：{reason}', 'acknowledged by the worker': '执行程序已确认', 'The last one ended with {reason}.': '上次连接结束于 {reason}。',
    'Live for {time}. All states are current.': '已实时连接 {time}。所见即当前状态。', 'Connected, but the gateway is not up to date with its broker: states may be outdated.': '已连接，但网关的数据落后于其消息代理：状态可能已过时。',
    'Connecting to the gateway.': '正在连接网关。', 'Not connected. It does not retry automatically.': '未连接，也不会自动重试。', 'Trying again when this page is visible.': '查看此页面时将重试。', 'Trying again in {time}.': '{time}后重试。',
    '{n} pings: {min} to {max} ms': '{n} 次 ping：{min} 至 {max} ms', 'long polling': '长轮询', 'Violation: {text}': '违规：{text}', 'Error: {text}': '错误：{text}',
    'Switched without interruption to {transport}': '已无间断切换到 {transport}', 'Switched without interruption to {transport}, node {node}': '已无间断切换到 {transport}，节点 {node}', 'Connecting over {transport}': '正在通过 {transport} 连接',
    'The gateway is up to date again': '网关的数据已恢复最新', 'Live, node {node}': '实时，节点 {node}', 'The gateway is not up to date with its broker': '网关的数据落后于其消息代理', 'Lost': '连接中断', 'The response was {status}.': '响应为 {status}。',
  },
};

/** The names of the transports, in English. */
export const TRANSPORTS = { websocket: 'WebSocket', sse: 'Server-Sent Events', polling: 'long polling' };

/** @type {Record<string, string>} */
let dictionary = {};

/**
 * Returns a text of the page in the chosen language.
 * @param {string} english @param {Record<string, string | number>} [values]
 */
export function t(english, values = {}) {
  return fill(dictionary[english] ?? english, Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)])));
}

/** Chooses the language, and translates the texts in the HTML. */
export function translatePage() {
  const chosen = new URLSearchParams(location.search).get('lang');
  const locale = [chosen, ...navigator.languages].find((tag) => tag && ['en', ...Object.keys(TRANSLATIONS)].includes(primaryLanguage(tag))) ?? 'en';
  dictionary = TRANSLATIONS[primaryLanguage(locale)] ?? {};
  configure({ locale });
  document.documentElement.lang = locale;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
    const text = node.nodeValue?.trim() ?? '';
    if (dictionary[text] && !node.parentElement?.closest('pre, code')) node.nodeValue = (node.nodeValue ?? '').replace(text, t(text));
  }
  for (const name of ['aria-label', 'placeholder']) {
    for (const node of document.querySelectorAll(`[${name}]`)) node.setAttribute(name, t(node.getAttribute(name) ?? ''));
  }
}

/** Returns the language of a BCP 47 tag. @param {string} tag */
function primaryLanguage(tag) {
  return tag.toLowerCase().split('-')[0] ?? 'en';
}
