#!/usr/bin/python3
"""Tries docs/monitoring.md: its commands, its metrics, its alerts, its dashboard.

    run.py [--keep FILE.png]

The server that PGHOST and PGPORT name has the extension and no database "shop".
It, and what is started here, belong to one user; nothing is installed.

The blocks of commands of the page are run as they stand there, in order, with
these differences: /etc is a copy of what Debian's packages put there, ports are
free ones, sudo changes no user, apt-get looks whether the packages are there,
and systemctl starts what the unit says.  Prometheus asks every three seconds.

What is started is ended by its process id, however this ends.  --keep copies
the picture of the dashboard.  The last line printed is "N passed, N failed".
"""

import argparse
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import psycopg2

HERE = os.path.dirname(os.path.realpath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
DOCS = os.path.join(TREE, "docs", "monitoring")
UNITS = "/lib/systemd/system"
PROGRAMS = ["prometheus", "prometheus-postgres-exporter", "promtool",
            "chromium"]

# What has not come by then does not come.
PATIENCE = 60 * int(os.environ.get("PATIENCE", 1))

# Commands of the page that must not be those of the machine.
SUDO = """#!/bin/sh
[ "$1" != -u ] || shift 2
exec "$@"
"""
APT_GET = """#!/bin/sh
[ "$1 $2" = "install -y" ] && shift 2 && dpkg-query -s "$@" >/dev/null
"""
SYSTEMCTL = """#!/bin/sh
[ "$1" = restart ] || exit 1
if [ -f "{root}/$2.pid" ]; then
	pid=$(cat "{root}/$2.pid")
	kill "$pid" || exit 1
	while [ -e "/proc/$pid/exe" ]; do sleep 0.1; done
fi
set -a
. "{root}/etc/default/$2"
set +a
case $2 in
	prometheus) ARGS="$ARGS {prometheus}" ;;
	*) ARGS="$ARGS {exporter}" ;;
esac
(
	exec >"{root}/$2.log" 2>&1 </dev/null
	eval "exec $(sed -n 's/^ExecStart=//p' {units}/"$2.service")"
) &
echo $! >"{root}/$2.pid"
"""


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def read(*path: str) -> str:
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


class Book:
    """Counts what held and what did not."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def check(self, holds: bool, what: str, *details: object) -> bool:
        print("%s - %s" % ("ok" if holds else "not ok", what), flush=True)
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            for detail in details:
                print("    " + str(detail).replace("\n", "\n    ")[:4000])
        return holds

    def same(self, got: object, expected: object, what: str) -> None:
        self.check(got == expected, what, "got: %s" % (got,),
                   "expected: %s" % (expected,))

    def soon(self, is_so, what: str) -> bool:
        """Something is so in the end; what is_so says is shown if not."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                reason = is_so()
            except (OSError, ValueError) as error:
                reason = error
            if not reason or time.monotonic() > deadline:
                return self.check(not reason, what, reason)
            time.sleep(0.3)


class Machine:
    """Where the page is followed: a directory in the place of /."""

    def __init__(self, root: str) -> None:
        self.root = root
        exporter, prometheus = free_port(), free_port()
        self.exporter = "http://127.0.0.1:%d" % exporter
        self.prometheus = "http://127.0.0.1:%d" % prometheus
        self.words = {
            "/etc/": root + "/etc/",
            "/run/postgresql": os.environ["PGHOST"],
            "localhost:9187": "127.0.0.1:%d" % exporter,
            "localhost:9090": "127.0.0.1:%d" % prometheus,
        }
        os.makedirs(root + "/etc/prometheus")
        os.makedirs(root + "/etc/default")
        for name in ("prometheus/prometheus.yml", "default/prometheus"):
            shutil.copy("/etc/" + name, root + "/etc/" + name)
        config = self.translate(read(root, "etc/prometheus/prometheus.yml"))
        with open(root + "/etc/prometheus/prometheus.yml", "w",
                  encoding="utf-8") as file:
            file.write(re.sub(r"_interval: +\d+s", "_interval: 3s",
                              config.replace("_timeout: 5s", "_timeout: 3s")))
        os.mkdir(root + "/bin")
        self.put("sudo", SUDO)
        self.put("apt-get", APT_GET)
        self.put("systemctl", SYSTEMCTL.format(
            root=root, units=UNITS,
            exporter="--web.listen-address=127.0.0.1:%d" % exporter,
            prometheus="--config.file=%s/etc/prometheus/prometheus.yml "
            "--storage.tsdb.path=%s/data --web.listen-address=127.0.0.1:%d"
            % (root, root, prometheus)))

    def put(self, name: str, script: str) -> None:
        path = os.path.join(self.root, "bin", name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        os.chmod(path, 0o755)

    def translate(self, text: str) -> str:
        for word, here in self.words.items():
            text = text.replace(word, here)
        return text

    def run(self, block: str) -> subprocess.CompletedProcess:
        """A block of commands, of which each must succeed."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.translate(block)],
            cwd=TREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE,
            env=dict(os.environ,
                     PATH=self.root + "/bin:" + os.environ["PATH"]))

    def stop(self) -> None:
        for name in os.listdir(self.root):
            if name.endswith(".pid"):
                try:
                    os.kill(int(read(self.root, name)), signal.SIGTERM)
                except ProcessLookupError:
                    pass

    def logs(self) -> str:
        return "\n".join(read(self.root, name)[-2000:]
                         for name in os.listdir(self.root)
                         if name.endswith(".log"))

    def ask(self, expr: str) -> list:
        """What Prometheus answers to a query of this moment."""
        answer = json.loads(get(self.prometheus + "/api/v1/query?" +
                                urllib.parse.urlencode({"query": expr})))
        return answer["data"]["result"]

    def troubles(self) -> list:
        """Why Prometheus does not get what it asks for."""
        targets = json.loads(get(self.prometheus + "/api/v1/targets"))
        return ["%(scrapeUrl)s: %(lastError)s, %(lastScrapeDuration)s s" % target
                for target in targets["data"]["activeTargets"]
                if target["labels"]["job"] == "postgresql"] + [self.logs()]

    def metrics(self) -> dict:
        """What the exporter tells of queues: values by name and labels."""
        found = {}
        for line in get(self.exporter + "/metrics").splitlines():
            match = re.match(r"(queue_\w+)\{(.*)\} (\S+)$", line)
            if match:
                labels = re.findall(r'(\w+)="([^"]*)"', match[2])
                found[match[1], frozenset(
                    pair for pair in labels if pair[0] != "server")] \
                    = float(match[3])
        return found


class Traffic(threading.Thread):
    """Sends, takes, fails and waits, until it is told to stop."""

    ROUND = """
        SELECT queue.enqueue('shop.traffic', to_jsonb(i)) FROM generate_series(1, 5) i;
        SELECT queue.publish('shop.events', '0'::jsonb);
        SELECT queue.ack(receipt) FROM queue.receive('shop.traffic', 2);
        SELECT count(*) FROM queue.dequeue('shop.traffic', 1);
        SELECT queue.nack(receipt, error => 'no') FROM queue.receive('shop.traffic', 1);
        SELECT queue.reject(receipt, 'no') FROM queue.receive('shop.traffic', 1);
    """
    WAIT = "SELECT count(*) FROM queue.dequeue('shop.paused', wait => '1 s')"

    def __init__(self, statements: str, pause: float) -> None:
        super().__init__(daemon=True)
        self.statements = [s for s in statements.split(";") if s.strip()]
        self.pause = pause
        self.ended = threading.Event()
        self.error = None

    def run(self) -> None:
        try:
            connection = psycopg2.connect(dbname="shop")
            connection.autocommit = True
            cursor = connection.cursor()
            while not self.ended.wait(self.pause):
                for statement in self.statements:
                    cursor.execute(statement)
            connection.close()
        except psycopg2.Error as error:
            self.error = error

    def stop(self) -> None:
        self.ended.set()
        self.join()


def query(statement: str, dbname: str = "shop") -> list:
    connection = psycopg2.connect(dbname=dbname)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows


def commands(heading: str) -> list:
    """The blocks of commands of a section of the page."""
    section = re.search(r"^## %s\n(.*?)^## " % heading,
                        read(DOCS, "..", "monitoring.md"),
                        re.DOTALL | re.MULTILINE)
    return re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)


def set_up(book: Book, machine: Machine) -> None:
    query("CREATE DATABASE shop", "postgres")
    query("CREATE EXTENSION queue")
    subprocess.run(["psql", "-X", "-q", "-o", os.devnull, "-d", "shop", "-v",
                    "ON_ERROR_STOP=1", "-f", HERE + "/scenario.sql"],
                   check=True)
    query("BEGIN; SELECT queue.enqueue('shop.orders', '{}'::jsonb); "
          "PREPARE TRANSACTION 'watched'")

    blocks = commands("In ten minutes")
    for block in blocks[:-1]:
        done = machine.run(block)
        book.check(done.returncode == 0,
                   "the page: " + block.strip().splitlines()[0],
                   done.stdout, machine.logs())

    def has_orders() -> str:
        done = machine.run(blocks[-1])
        return "" if 'queuename="orders"' in done.stdout else done.stdout

    book.soon(has_orders, "the page: " + blocks[-1].strip())


def documented() -> dict:
    """Metrics of the page: kind by name."""
    kinds = {}
    for line in read(DOCS, "..", "monitoring.md").splitlines():
        match = re.match(r"\| (`queue_.*`) \| (gauge|counter|histogram) \|",
                         line)
        if match:
            for name in re.findall(r"`(queue_\w+)`", match[1]):
                kinds[name] = match[2]
    return kinds


# What the exporter says once scenario.sql has run; None: no sample.
VALUES = (
    (5, "queue_messages", {"queuename": "orders", "state": "ready"}),
    (2, "queue_messages", {"queuename": "orders", "state": "in_flight"}),
    (3, "queue_messages", {"queuename": "orders", "state": "delayed"}),
    (0, "queue_messages", {"queuename": "orders", "state": "dead"}),
    (4, "queue_messages", {"queuename": "failing", "state": "dead"}),
    (4, "queue_messages", {"queuename": "failing_dead", "state": "ready"}),
    (10, "queue_events_total", {"queuename": "orders", "event": "enqueued"}),
    (4, "queue_events_total",
     {"queuename": "failing", "event": "dead_lettered"}),
    (100000, "queue_setting_value",
     {"queuename": "orders", "setting": "max_messages"}),
    (None, "queue_setting_value",
     {"queuename": "paused", "setting": "max_messages"}),
    (1, "queue_setting_value",
     {"queuename": "paused", "setting": "enqueue_paused"}),
    (0, "queue_setting_value",
     {"queuename": "orders", "setting": "is_dead_letter"}),
    (1, "queue_setting_value",
     {"queuename": "orders_dead", "setting": "is_dead_letter"}),
    (None, "queue_oldest_ready_seconds", {"queuename": "paused"}),
    (0, "queue_waiting_consumers", {"queuename": "orders"}),
    (9, "queue_subscription_lag_messages", {"queuename": "billing"}),
    (0, "queue_subscription_unread_partitions", {"queuename": "billing"}),
    (2, "queue_subscription_unread_partitions", {"queuename": "unread"}),
    (None, "queue_subscription_lag_messages", {"queuename": "unread"}),
    (0, "queue_subscription_paused", {"queuename": "billing"}),
    (10, "queue_topic_ids_total", {"topicname": "events"}),
    (1, "queue_in_doubt_transactions", {}),
    (1, "queue_processes_running", {"kind": "leader"}),
    (1, "queue_processes_running", {"kind": "worker"}),
    (131072, "queue_memory_max_in_flight", {}),
    (2, "queue_memory_in_flight", {}),
)
POSITIVE = (
    ("queue_oldest_ready_seconds", {"queuename": "orders"}),
    ("queue_in_doubt_oldest_seconds", {}),
    ("queue_subscription_lag_seconds", {"queuename": "billing"}),
    ("queue_storage_table_bytes", {"queuename": "orders"}),
    ("queue_storage_index_bytes", {"queuename": "orders"}),
)


def check_metrics(book: Book, machine: Machine) -> None:
    text = get(machine.exporter + "/metrics")
    for line in ("pg_up ", "pg_exporter_last_scrape_error ",
                 "pg_exporter_user_queries_load_error{"):
        found = re.search(r"^%s.*" % re.escape(line), text, re.MULTILINE)
        book.same(found and found[0].split()[-1],
                  "1" if line == "pg_up " else "0", line.rstrip("{ "))
    book.same(re.findall(r"^queue_.* NaN$", text, re.MULTILINE), [],
              "what is not known has no sample")
    book.same(dict(re.findall(r"^# TYPE (queue_\w+) (\w+)$", text,
                              re.MULTILINE)), documented(),
              "metrics and their kinds are those of the page")

    metrics = machine.metrics()
    book.same({dict(labels).get("datname") for _, labels in metrics},
              {"shop"}, "each tells its database")

    def value(name: str, labels: dict):
        """What there is of this now, or None."""
        labels = dict(labels, datname="shop")
        if "queuename" in labels or "topicname" in labels:
            labels["schemaname"] = "shop"
        return metrics.get((name, frozenset(labels.items())))

    # Some numbers come a moment later than what they tell of.
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(
            value(name, labels) != number for number, name, labels in VALUES):
        time.sleep(0.5)
        metrics = machine.metrics()
    for number, name, labels in VALUES:
        book.same(value(name, labels), number,
                  " ".join([name] + list(labels.values())))
    for name, labels in POSITIVE:
        book.check((value(name, labels) or 0) > 0,
                   "%s is above zero" % name, value(name, labels))


def check_histogram(book: Book, machine: Machine) -> None:
    """Of a queue that nobody uses any more."""
    ours = frozenset({("datname", "shop"), ("schemaname", "shop"),
                      ("queuename", "failing"), ("kind", "wait")})
    metrics = machine.metrics()
    buckets = sorted(
        (float(dict(labels)["le"]), value)
        for (name, labels), value in metrics.items()
        if name == "queue_latency_seconds_bucket" and ours < labels)
    [(count, bounds)] = query(
        """SELECT (SELECT sum(n) FROM unnest(buckets) n)::int,
                  array(SELECT extract(epoch FROM b)::float8 FROM unnest(bounds) b)
             FROM queue.latency
            WHERE queue = 'shop.failing'::regclass AND kind = 'wait'""")
    values = [value for _, value in buckets]
    book.check(values == sorted(values) and 5 < len(values) < 20,
               "buckets add up, and are few", buckets)
    book.check({le for le, _ in buckets} - {float("inf")} < set(bounds),
               "their bounds are some of the view's", buckets, bounds)
    book.same((values[-1:], metrics.get(("queue_latency_seconds_count", ours))),
              ([count], count), "the last of them has all messages")
    # a bucket holds what its bound says: compare one in the middle
    for le, value in buckets[:-1]:
        [(below,)] = query(
            """SELECT coalesce(sum(n), 0)::int
                 FROM queue.latency, unnest(buckets, bounds) x (n, bound)
                WHERE queue = 'shop.failing'::regclass AND kind = 'wait'
                  AND bound <= '%r s'::interval + '0.4 us'::interval""" % le)
        if value != below:
            book.same(value, below, "the bucket up to %s s" % le)
            break
    else:
        book.check(True, "each bucket has what is below its bound")


def check_cardinality(book: Book, machine: Machine) -> None:
    """A thousand messages, groups and leases more, and as many series."""
    def series() -> set:
        return {key for key in machine.metrics()
                if key[0] != "queue_oldest_ready_seconds"}

    before = series()
    query("""SELECT count(queue.enqueue('shop.traffic', to_jsonb(i),
                                        group_key => i::text))
               FROM generate_series(1, 1000) i""")
    query("SELECT count(*) FROM queue.receive('shop.traffic', 300)")
    book.same(series() ^ before, set(),
              "more messages, groups and leases make no more series")


def check_databases(book: Book, machine: Machine) -> None:
    query("CREATE DATABASE stock", "postgres")
    query("CREATE EXTENSION queue", "stock")
    [block] = commands("More databases")
    done = machine.run(block)
    book.check(done.returncode == 0, "the page: more databases", done.stdout)

    def tells_of_both() -> str:
        names = {dict(labels).get("datname")
                 for _, labels in machine.metrics()}
        return "" if names == {"shop", "stock"} else str(names)

    book.soon(tells_of_both, "an exporter tells of both")


def panels_of() -> list:
    return [panel for panel in json.loads(read(DOCS, "dashboard.json"))
            ["panels"] if panel["type"] != "row"]


def check_alerts(book: Book, machine: Machine) -> None:
    rules, tests = read(DOCS, "alerts.yaml"), read(HERE, "alerts_test.yaml")
    done = subprocess.run(["promtool", "test", "rules", "alerts_test.yaml"],
                          cwd=HERE, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False)
    book.check(done.returncode == 0, "promtool test rules", done.stdout)

    names = re.findall(r"- alert: (\w+)", rules)
    book.same(re.findall(r"^### (Queue\w+)$",
                         read(DOCS, "..", "monitoring.md"), re.MULTILINE),
              names, "the page explains each alert")
    fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts", tests))
    quiet = set(re.findall(r"alertname: (\w+)(?!\n +exp_alerts)\b", tests))
    book.same((fires, quiet), (set(names), set(names)),
              "each is tested, both when it fires and when not")

    loaded = [rule for group in json.loads(
        get(machine.prometheus + "/api/v1/rules"))["data"]["groups"]
        for rule in group["rules"]]
    book.same([(rule["name"], rule["health"]) for rule in loaded],
              [(name, "ok") for name in names], "Prometheus evaluates them")

    # A misspelt name would be silence.
    used = set(re.findall(r"\b(?:queue|pg)_[a-z_]+\b", " ".join(
        [rule["query"] for rule in loaded] +
        [target["expr"] for panel in panels_of()
         for target in panel["targets"]])))
    used -= {"queue_health"}
    book.same([name for name in sorted(used)
               if not machine.ask("count(%s)" % name)], [],
              "what alerts and dashboard ask for is there")

    def fired() -> str:
        alerts = json.loads(
            get(machine.prometheus + "/api/v1/alerts"))["data"]["alerts"]
        for alert in alerts:
            if alert["labels"]["alertname"] == "QueueDeadLetters" and \
                    alert["labels"]["queuename"] == "traffic":
                return ""
        return str(alerts)

    book.soon(fired, "dead letters set off an alert")


class Page(http.server.BaseHTTPRequestHandler):
    """Serves render.html and what it needs; keeps what it found."""

    files: dict = {}
    found = None

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8"
                         if self.path == "/" else "application/json")
        self.end_headers()
        self.wfile.write((body or "").encode())

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        Page.found = json.loads(self.rfile.read(length))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


VARIABLES = {"datname": ".*", "queue": ".*", "__rate_interval": "20s"}


def check_dashboard(book: Book, machine: Machine, keep: str) -> None:
    def lacking() -> str:
        """Panels of which a query has no number yet."""
        lacks = []
        for panel in panels_of():
            for target in panel["targets"]:
                expr = target["expr"]
                for name, value in VARIABLES.items():
                    expr = expr.replace("$" + name, value)
                if not any(sample["value"][1] != "NaN"
                           for sample in machine.ask(expr)):
                    lacks.append("%s: %s" % (panel["title"], expr))
        return "\n".join(lacks + machine.troubles() if lacks else [])

    book.soon(lacking, "Prometheus answers each query of the dashboard")

    # some points of a line
    book.soon(lambda: "" if machine.ask(
        "count_over_time(queue_in_doubt_transactions[1h]) > 8")
        else machine.troubles(), "there is something to draw")

    # Grafana would move what lies on something else.
    every = json.loads(read(DOCS, "dashboard.json"))["panels"]
    cells = [(x, y) for panel in every for place in [panel["gridPos"]]
             for x in range(place["x"], place["x"] + place["w"])
             for y in range(place["y"], place["y"] + place["h"])]
    book.check(len(cells) == len(set(cells)) and max(cells)[0] < 24 and
               len({panel["id"] for panel in every}) == len(every),
               "panels have a place and an id of their own")

    end = time.time()
    height = 60 + 30 * max(panel["gridPos"]["y"] + panel["gridPos"]["h"]
                           for panel in panels_of())
    Page.files = {
        "/": read(HERE, "render.html"),
        "/dashboard.json": read(DOCS, "dashboard.json"),
        "/config.json": json.dumps({
            "prometheus": machine.prometheus, "variables": VARIABLES,
            "start": end - 60, "end": end, "step": 3})}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    picture = machine.root + "/dashboard.png"
    done = subprocess.run(
        ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
         "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
         "--user-data-dir=%s/chromium" % machine.root,
         "--window-size=1400,%d" % height, "--virtual-time-budget=60000",
         "--screenshot=" + picture,
         "http://127.0.0.1:%d/" % server.server_port],
        env=dict(os.environ, HOME=machine.root), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=2 * PATIENCE)
    server.shutdown()

    if not book.check(isinstance(Page.found, list), "the dashboard is drawn",
                      Page.found, done.stdout[-3000:]):
        return
    book.same([panel["title"] for panel in Page.found],
              [panel["title"] for panel in panels_of()], "all panels are")
    for panel in Page.found:
        book.check(panel["error"] is None and panel["numbers"] > 0,
                   "panel \"%s\" has data" % panel["title"], panel)
    drawn = {panel["title"]: panel["last"] for panel in Page.found}
    book.same(drawn["Ready messages"].get("shop.orders"), 5,
              "a panel shows what is so")
    book.same(drawn["Dead letters"].get("shop.failing_dead"), 4,
              "dead letters are in their own")

    # Nothing but a grey page would be some kilobytes.
    size = os.path.getsize(picture) if os.path.exists(picture) else 0
    book.check(size > 50000, "there is a picture", size, done.stdout[-3000:])
    if keep and size:
        shutil.copy(picture, keep)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", metavar="FILE.png")
    keep = parser.parse_args().keep
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        print("not installed: %s; \"test/deps.sh monitoring\" does it"
              % ", ".join(missing))
        print("0 passed, 0 failed, 1 skipped")
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    book = Book()
    machine = Machine(tempfile.mkdtemp(prefix="queue-monitoring."))
    traffic = [Traffic(Traffic.ROUND, 0.2), Traffic(Traffic.WAIT, 0.01)]
    try:
        set_up(book, machine)
        check_metrics(book, machine)
        check_histogram(book, machine)
        for thread in traffic:
            thread.start()
        book.soon(lambda: "" if machine.ask(
            'queue_waiting_consumers{queuename="paused"} == 1')
            else "nobody waits", "a consumer waits")
        check_dashboard(book, machine, keep)
        check_alerts(book, machine)
        check_cardinality(book, machine)
        check_databases(book, machine)
        for thread in traffic:
            thread.stop()
        book.same([thread.error for thread in traffic], [None, None],
                  "the traffic had no errors")
        query("ROLLBACK PREPARED 'watched'")
    finally:
        machine.stop()
        shutil.rmtree(machine.root, ignore_errors=True)
    print("%d passed, %d failed" % (book.passed, book.failed))
    return 1 if book.failed else 0


if __name__ == "__main__":
    sys.exit(main())
