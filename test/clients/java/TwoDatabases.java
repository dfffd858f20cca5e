/*
 * XA over two databases with PgJDBC: orders in one, inventory in the other.
 *
 * A message is taken in the one, a shipment and a message are made in the
 * other.  Prints TAP without numbers, as Shop.java does.  A transaction manager
 * that crashes is a process of its own, which halts between two steps; another
 * process recovers.  Each check is judged by what both databases hold.
 */
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import javax.sql.XAConnection;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.postgresql.xa.PGXADataSource;

public class TwoDatabases {
    static final int FORMAT = 0x51554555;
    static final String PLACED = "shop.order_placed";
    static final String CHANGED = "shop.order_changed";
    static final int HALTED = 42;

    record Branch(byte[] global, byte[] branch) implements Xid {
        Branch(String global, String branch) {
            this(global.getBytes(), branch.getBytes());
        }

        public int getFormatId() {
            return FORMAT;
        }

        public byte[] getGlobalTransactionId() {
            return global;
        }

        public byte[] getBranchQualifier() {
            return branch;
        }
    }

    interface Decision {
        boolean isCommit(String global) throws Exception;
    }

    interface Check {
        void run() throws Exception;
    }

    static int checks;
    static boolean failed;
    static Connection orders;
    static Connection inventory;

    static XAConnection open(String variable) throws SQLException {
        PGXADataSource source = new PGXADataSource();
        source.setServerNames(new String[] {System.getenv("PGHOST")});
        source.setPortNumbers(new int[] {
            Integer.parseInt(System.getenv("PGPORT"))});
        source.setDatabaseName(System.getenv(variable));
        source.setUser(System.getenv("PGUSER"));
        return source.getXAConnection();
    }

    static List<String> ask(Connection conn, String sql, Object... parameters)
            throws SQLException {
        List<String> values = new ArrayList<>();
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) {
                statement.setObject(i + 1, parameters[i]);
            }
            if (statement.execute()) {
                ResultSet rows = statement.getResultSet();
                while (rows.next()) {
                    values.add(rows.getString(1));
                }
            }
        }
        return values;
    }

    static void enqueue(Connection conn, String queue, String id)
            throws SQLException {
        ask(conn, "SELECT queue.enqueue(?::text::regclass,"
                + " jsonb_build_object('id', ?::text))", queue, id);
    }

    static List<String> take(Connection conn, String queue)
            throws SQLException {
        return ask(conn, "SELECT payload ->> 'id'"
                + " FROM queue.dequeue(?::text::regclass, max => 100)", queue);
    }

    static void expect(Object found, Object wanted) {
        if (!found.equals(wanted)) {
            throw new AssertionError("found " + found + ", not " + wanted);
        }
    }

    /** The order's message is taken here, by dequeue or by receive and ack. */
    static void workOnOrders(Connection conn, String how) throws SQLException {
        List<String> taken;
        if (how.equals("receive")) {
            taken = ask(conn, "SELECT receipt FROM queue.receive(?::text"
                    + "::regclass)", PLACED);
            ask(conn, "SELECT queue.ack(?)", taken.get(0));
        } else {
            taken = take(conn, PLACED);
        }
        expect(taken.size(), 1);
        ask(conn, "INSERT INTO shop.orders VALUES (1, 'tea')");
    }

    static void workOnInventory(Connection conn) throws SQLException {
        ask(conn, "INSERT INTO shop.shipments VALUES (1)");
        enqueue(conn, CHANGED, "1");
    }

    static void haltAt(String step, String wanted) {
        if (step.equals(wanted)) {
            Runtime.getRuntime().halt(HALTED);
        }
    }

    /** Two-phase commit; the decision is a line in the manager's log. */
    static void twoPhase(Path log, String global, String how, String crash)
            throws Exception {
        XAConnection first = open("PGDATABASE");
        XAConnection second = open("INVENTORY_DATABASE");
        Xid one = new Branch(global, "orders");
        Xid two = new Branch(global, "inventory");
        first.getXAResource().start(one, XAResource.TMNOFLAGS);
        second.getXAResource().start(two, XAResource.TMNOFLAGS);
        workOnOrders(first.getConnection(), how);
        workOnInventory(second.getConnection());
        first.getXAResource().end(one, XAResource.TMSUCCESS);
        second.getXAResource().end(two, XAResource.TMSUCCESS);
        first.getXAResource().prepare(one);
        haltAt("one prepared", crash);
        second.getXAResource().prepare(two);
        haltAt("both prepared", crash);
        if (crash.equals("rollback")) {
            inDoubt();
            first.getXAResource().rollback(one);
            second.getXAResource().rollback(two);
        } else {
            Files.writeString(log, global + "\n", StandardOpenOption.CREATE,
                    StandardOpenOption.APPEND, StandardOpenOption.SYNC);
            haltAt("decided", crash);
            if (crash.equals("none")) {
                inDoubt();
            }
            first.getXAResource().commit(one, false);
            haltAt("one committed", crash);
            second.getXAResource().commit(two, false);
        }
        first.close();
        second.close();
    }

    // --- README ---
    /** Last resource: inventory prepares, the commit of orders decides. */
    static void lastResource(XAConnection inventory, Connection orders,
            String global, String crash) throws Exception {
        Xid xid = new Branch(global, "inventory");
        XAResource resource = inventory.getXAResource();
        resource.start(xid, XAResource.TMNOFLAGS);
        workOnInventory(inventory.getConnection());
        resource.end(xid, XAResource.TMSUCCESS);
        resource.prepare(xid);
        haltAt("prepared", crash);
        orders.setAutoCommit(false);
        try {
            workOnOrders(orders, "dequeue");
            ask(orders, "INSERT INTO shop.outcomes VALUES (?, true)", global);
            orders.commit();                // the commit point
        } catch (SQLException failure) {
            orders.rollback();              // recovery asks for the outcome
            throw failure;
        }
        haltAt("marked", crash);
        resource.commit(xid, false);
    }

    /** What stands, once nobody can write another outcome any more. */
    static boolean outcome(Connection orders, String global)
            throws SQLException {
        ask(orders, "INSERT INTO shop.outcomes VALUES (?, false)"
                + " ON CONFLICT DO NOTHING", global);
        return ask(orders, "SELECT committed FROM shop.outcomes"
                + " WHERE global = ?", global).equals(List.of("t"));
    }

    /** Finishes our branches in one database. */
    static void recover(XAConnection database, Decision decision)
            throws Exception {
        XAResource resource = database.getXAResource();
        for (Xid xid : resource.recover(
                XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN)) {
            if (xid.getFormatId() != FORMAT) {
                continue;                   // another manager's
            }
            if (decision.isCommit(new String(xid.getGlobalTransactionId()))) {
                resource.commit(xid, false);
            } else {
                resource.rollback(xid);
            }
        }
    }
    // --- README ---

    /** Nobody sees anything of a prepared branch, or waits for it. */
    static void inDoubt() throws SQLException {
        holds(List.of(), List.of(), List.of(), List.of());
    }

    static void holds(List<String> placed, List<String> ordered,
            List<String> shipped, List<String> changed) throws SQLException {
        expect(ask(orders, "SELECT id FROM shop.orders"), ordered);
        expect(ask(inventory, "SELECT order_id FROM shop.shipments"), shipped);
        expect(left(orders, PLACED, placed), placed);
        expect(left(inventory, CHANGED, changed), changed);
    }

    /** What was given back may be due a little later. */
    static List<String> left(Connection conn, String queue,
            List<String> wanted) throws SQLException {
        return ask(conn, "SELECT payload ->> 'id' FROM queue.dequeue(?::text"
                + "::regclass, max => 100, wait => ?::text::interval)", queue,
                wanted.isEmpty() ? "0" : "1 minute");
    }

    static void committed() throws SQLException {
        holds(List.of(), List.of("1"), List.of("1"), List.of("1"));
        nothingPrepared();
    }

    static void rolledBack() throws SQLException {
        holds(List.of("1"), List.of(), List.of(), List.of());
        nothingPrepared();
    }

    static void nothingPrepared() throws SQLException {
        for (Connection conn : List.of(orders, inventory)) {
            expect(ask(conn, "SELECT gid FROM pg_prepared_xacts"
                    + " WHERE database = current_database()"), List.of());
        }
    }

    static void process(int status, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                System.getProperty("java.home") + "/bin/java", "-cp",
                System.getProperty("java.class.path"),
                System.getenv("XA_SOURCE")));
        command.addAll(List.of(arguments));
        expect(new ProcessBuilder(command).inheritIO().start().waitFor(),
                status);
    }

    static void check(String description, Check check) throws Exception {
        checks++;
        try {
            for (Connection conn : List.of(orders, inventory)) {
                ask(conn, "SELECT shop.clear()");
                ask(conn, "DELETE FROM shop.outcomes");
            }
            enqueue(orders, PLACED, "1");
            check.run();
            System.out.println("ok - " + description);
        } catch (Exception | AssertionError failure) {
            failed = true;
            System.out.println("not ok - " + description);
            System.out.println("# " + failure);
        }
    }

    static void child(String[] arguments) throws Exception {
        Path log = Path.of(arguments[1]);
        switch (arguments[0]) {
            case "two-phase" ->
                twoPhase(log, "two-phase", arguments[2], arguments[3]);
            case "last-resource" ->
                lastResource(open("INVENTORY_DATABASE"),
                        open("PGDATABASE").getConnection(), "last resource",
                        arguments[2]);
            case "recover" -> {
                List<String> decided = Files.exists(log)
                        ? Files.readAllLines(log) : List.of();
                recover(open("PGDATABASE"), decided::contains);
                recover(open("INVENTORY_DATABASE"), decided::contains);
            }
            case "recover-last-resource" -> {
                Connection conn = open("PGDATABASE").getConnection();
                recover(open("INVENTORY_DATABASE"),
                        global -> outcome(conn, global));
            }
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 0) {
            child(arguments);
            return;
        }
        orders = open("PGDATABASE").getConnection();
        inventory = open("INVENTORY_DATABASE").getConnection();
        for (Connection conn : List.of(orders, inventory)) {
            ask(conn, "CREATE TABLE shop.outcomes (global text PRIMARY KEY,"
                    + " committed boolean NOT NULL)");
        }
        Path directory = Files.createTempDirectory("queue-xa");
        Path log = directory.resolve("decisions");

        check("both prepared, both committed", () -> {
            twoPhase(log, "plain", "receive", "none");
            committed();
        });
        check("both prepared, both rolled back", () -> {
            twoPhase(log, "plain", "dequeue", "rollback");
            rolledBack();
        });
        check("one-phase commit", () -> {
            XAConnection only = open("PGDATABASE");
            Xid xid = new Branch("one phase", "orders");
            only.getXAResource().start(xid, XAResource.TMNOFLAGS);
            workOnOrders(only.getConnection(), "receive");
            only.getXAResource().end(xid, XAResource.TMSUCCESS);
            only.getXAResource().commit(xid, true);
            only.close();
            holds(List.of(), List.of("1"), List.of(), List.of());
        });
        for (String crash : List.of("one prepared", "both prepared", "decided",
                "one committed")) {
            check("crash, " + crash + ", and recovery", () -> {
                Files.deleteIfExists(log);
                boolean decided = crash.equals("decided")
                        || crash.equals("one committed");
                process(HALTED, "two-phase", log.toString(),
                        decided ? "receive" : "dequeue", crash);
                process(0, "recover", log.toString());
                if (decided) {
                    committed();
                } else {
                    rolledBack();
                }
            });
        }
        for (String crash : List.of("none", "prepared", "marked")) {
            check("last resource, crash: " + crash, () -> {
                process(crash.equals("none") ? 0 : HALTED, "last-resource",
                        log.toString(), crash);
                process(0, "recover-last-resource", log.toString());
                if (crash.equals("prepared")) {
                    rolledBack();
                } else {
                    committed();
                }
            });
        }
        check("last resource: recovery came first", () -> {
            expect(outcome(orders, "late"), false);
            try {
                lastResource(open("INVENTORY_DATABASE"),
                        open("PGDATABASE").getConnection(), "late", "none");
                throw new AssertionError("committed after an abort");
            } catch (SQLException refused) {
                expect(refused.getSQLState(), "23505");
            }
            process(0, "recover-last-resource", log.toString());
            rolledBack();
        });
        Files.deleteIfExists(log);
        Files.delete(directory);
        System.out.println("1.." + checks);
        System.exit(failed ? 1 : 0);
    }
}
