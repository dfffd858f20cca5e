/*
 * The calls of the extension through PgJDBC.
 *
 * Prints TAP without numbers; run.sh, which prepares the database and says by
 * PGHOST, PGPORT, PGUSER and PGDATABASE where it is, puts them in.  The part
 * between the two README marks is the example of the manual; run.sh compares
 * them.
 */
import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringReader;
import java.io.StringWriter;
import java.lang.reflect.Proxy;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.LongConsumer;
import javax.sql.DataSource;
import javax.sql.PooledConnection;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.postgresql.PGConnection;
import org.postgresql.ds.PGConnectionPoolDataSource;
import org.postgresql.ds.PGSimpleDataSource;
import org.postgresql.ds.common.BaseDataSource;
import org.postgresql.jdbc.AutoSave;
import org.postgresql.util.PGInterval;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.xa.PGXADataSource;

public class Shop {
    // --- README ---
    interface Work<T> {
        T run(Connection conn) throws SQLException;
    }

    /**
     * Commits, or throws.  The server answers the COMMIT of a transaction in
     * which a statement has failed with a ROLLBACK, not an error, and the
     * driver may let that pass; any other statement fails then.
     */
    static <T> T transaction(DataSource pool, Work<T> work)
            throws SQLException {
        try (Connection conn = pool.getConnection()) {
            conn.setAutoCommit(false);
            try {
                T result = work.run(conn);
                try (Statement check = conn.createStatement()) {
                    check.execute("SELECT 1");
                }
                conn.commit();
                return result;
            } catch (SQLException | RuntimeException failure) {
                try {
                    conn.rollback();
                } catch (SQLException broken) {
                    failure.addSuppressed(broken);
                }
                throw failure;
            }
        }
    }

    /** The order and its message: both or neither. */
    static void placeOrder(DataSource pool, long id, String item, String json)
            throws SQLException {
        transaction(pool, conn -> {
            try (PreparedStatement order = conn.prepareStatement(
                         "INSERT INTO shop.orders VALUES (?, ?)");
                 PreparedStatement message = conn.prepareStatement(
                         "SELECT queue.enqueue('shop.order_placed',"
                         + " ?::jsonb)")) {
                order.setLong(1, id);
                order.setString(2, item);
                order.executeUpdate();
                message.setString(1, json);
                message.execute();
            }
            return null;
        });
    }

    /** Many messages in one call; null in an array means "has none". */
    static Long[] placeOrders(Connection conn, String[] orders,
            String[] headers, String[] correlationIds) throws SQLException {
        try (PreparedStatement batch = conn.prepareStatement(
                "SELECT queue.enqueue_batch(?, ?, headers => ?,"
                + " correlation_ids => ?)")) {
            batch.setString(1, "shop.order_placed");
            batch.setArray(2, conn.createArrayOf("jsonb", orders));
            batch.setArray(3, conn.createArrayOf("jsonb", headers));
            batch.setArray(4, conn.createArrayOf("text", correlationIds));
            try (ResultSet row = batch.executeQuery()) {
                row.next();
                return (Long[]) row.getArray(1).getArray();
            }
        }
    }

    /** Dequeue: messages and shipments commit together, or not at all. */
    static int shipOrders(DataSource pool, long most, String patience)
            throws SQLException {
        return transaction(pool, conn -> {
            try (PreparedStatement take = conn.prepareStatement(
                         "SELECT payload ->> 'id' AS order_id"
                         + " FROM queue.dequeue(?, max => ?,"
                         + " wait => ?::interval)");
                 PreparedStatement ship = conn.prepareStatement(
                         "INSERT INTO shop.shipments VALUES (?)")) {
                take.setString(1, "shop.order_placed");
                take.setLong(2, most);
                take.setString(3, patience);    // a PGInterval no ::interval
                int shipped = 0;
                try (ResultSet message = take.executeQuery()) {
                    while (message.next()) {
                        ship.setLong(1, message.getLong("order_id"));
                        shipped += ship.executeUpdate();
                    }
                }
                return shipped;
            }
        });
    }

    /** A message under a lease */
    record Leased(String receipt, long orderId) {
    }

    /**
     * Receive: slow work outside of any transaction, under a lease.  The
     * receive is committed, in a pool without autocommit too: if it is rolled
     * back, when the connection goes back to the pool, the lease has ended.
     */
    static String shipSlowly(DataSource pool, LongConsumer printLabel,
            String lease) throws SQLException {
        Leased message = transaction(pool, conn -> {
            try (PreparedStatement take = conn.prepareStatement(
                    "SELECT receipt, payload ->> 'id' AS order_id"
                    + " FROM queue.receive(?, lease => ?::interval)")) {
                take.setString(1, "shop.order_placed");
                take.setString(2, lease);
                try (ResultSet row = take.executeQuery()) {
                    return !row.next() ? null : new Leased(
                            row.getString("receipt"),
                            row.getLong("order_id"));
                }
            }
        });
        if (message == null) {
            return "nothing to do";
        }
        try {
            printLabel.accept(message.orderId());
        } catch (RuntimeException failure) {
            System.err.println("order " + message.orderId() + ": " + failure);
            return giveBack(pool, message.receipt(), failure.toString());
        }
        try {
            return transaction(pool, conn -> {
                try (PreparedStatement ship = conn.prepareStatement(
                             "INSERT INTO shop.shipments VALUES (?)");
                     PreparedStatement ack = conn.prepareStatement(
                             "SELECT queue.ack(?)")) {
                    ship.setLong(1, message.orderId());
                    ship.executeUpdate();
                    ack.setString(1, message.receipt());
                    ack.execute();
                }
                return "shipped";
            });
        } catch (SQLException error) {
            return tooLate(error);          // and the shipment is rolled back
        }
    }

    /** The work has failed.  Perhaps because the lease has ended, too. */
    static String giveBack(DataSource pool, String receipt, String why)
            throws SQLException {
        try {
            return transaction(pool, conn -> {
                try (PreparedStatement nack = conn.prepareStatement(
                        "SELECT queue.nack(?, error => ?)")) {
                    nack.setString(1, receipt);
                    nack.setString(2, why.replace('\0', ' '));
                    nack.execute();
                }
                return "later";
            });
        } catch (SQLException error) {
            return tooLate(error);
        }
    }

    static String tooLate(SQLException error) throws SQLException {
        if (!"QU001".equals(error.getSQLState())) {
            throw error;
        }
        System.err.println("too late: " + error.getMessage());
        return "somebody else's now";
    }

    /** What there is to do once, as shipSlowly */
    interface Step {
        String run(DataSource pool) throws SQLException;
    }

    /**
     * The main loop, until stop is counted down.  If the connection is lost, a
     * lease runs on, and what was dequeued is back already.
     */
    static void consume(DataSource pool, Step step, CountDownLatch stop)
            throws SQLException, InterruptedException {
        while (stop.getCount() > 0) {
            try {
                if (step.run(pool).equals("nothing to do")) {
                    try (Connection conn = pool.getConnection()) {
                        waitForOrders(conn, "1 s");
                    }
                }
            } catch (SQLException error) {
                String state = String.valueOf(error.getSQLState());
                if (!state.startsWith("08") && !state.startsWith("57P0")) {
                    throw error;
                }
                System.err.println("connecting again: " + error.getMessage());
                stop.await(500, TimeUnit.MILLISECONDS);
            }
        }
    }

    /** SIGTERM lets the main loop finish what is at hand, and return. */
    static CountDownLatch stopAtSigterm() {
        CountDownLatch stop = new CountDownLatch(1);
        sun.misc.Signal.handle(new sun.misc.Signal("TERM"),
                signal -> stop.countDown());
        return stop;
    }

    /** Several receipts at once. */
    static int ackAll(Connection conn, String... receipts)
            throws SQLException {
        try (PreparedStatement ack = conn.prepareStatement(
                "SELECT queue.ack(?)")) {
            ack.setArray(1, conn.createArrayOf("text", receipts));
            try (ResultSet row = ack.executeQuery()) {
                row.next();
                return row.getInt(1);
            }
        }
    }

    /** Sleep until a message may be there.  Not as "{call ...}". */
    static void waitForOrders(Connection conn, String patience)
            throws SQLException {
        try (PreparedStatement wait = conn.prepareStatement(
                "CALL queue.wait(?, ?::interval)")) {
            wait.setString(1, "shop.order_placed");
            wait.setString(2, patience);
            wait.execute();
        }
    }
    // --- README ---

    /*
     * A consumer waits LONG at most and must be woken long before; SHORT is
     * for what has to run out.
     */
    static final String QUEUE = "shop.order_placed";
    static final String SHORT = "50 ms";
    static final String LONG = "30 s";
    static final long LONG_SECONDS = 30;

    /* the program that goes on over failures of the server */
    static final String CONSUMER = "consumer of the manual";
    static final int ORDERS = 300;

    record Message(long id, String receipt, int attempt,
            OffsetDateTime enqueuedAt, int priority, String groupKey,
            String correlationId, String headers, String payload,
            long orderId) {
        static Message of(ResultSet row) throws SQLException {
            return new Message(row.getLong("id"), row.getString("receipt"),
                    row.getInt("attempt"),
                    row.getObject("enqueued_at", OffsetDateTime.class),
                    row.getInt("priority"), row.getString("group_key"),
                    row.getString("correlation_id"),
                    row.getString("headers"), row.getString("payload"),
                    row.getLong("order_id"));
        }
    }

    interface Check {
        void run(Shop shop) throws Exception;
    }

    interface Body {
        void run() throws Exception;
    }

    record Named(String description, Check check) {
    }

    static final List<Named> CHECKS = new ArrayList<>();

    static void check(String description, Check check) {
        CHECKS.add(new Named(description, check));
    }

    /* What a check has to its disposal; closed when it ends. */
    final List<Connection> connections = new ArrayList<>();
    final DataSource pool = simple();
    final Connection conn;

    Shop() throws SQLException {
        conn = connect();
    }

    static <T extends BaseDataSource> T located(T source) {
        String host = System.getenv("PGHOST");
        source.setServerNames(new String[] {host});
        source.setPortNumbers(
                new int[] {Integer.parseInt(System.getenv("PGPORT"))});
        source.setDatabaseName(System.getenv("PGDATABASE"));
        source.setUser(System.getenv("PGUSER"));
        return source;
    }

    static PGSimpleDataSource simple() {
        return located(new PGSimpleDataSource());
    }

    Connection connect(DataSource source) throws SQLException {
        Connection opened = source.getConnection();
        connections.add(opened);
        return opened;
    }

    Connection connect() throws SQLException {
        return connect(simple());
    }

    static void expect(Object seen, Object wanted, String what) {
        if (!Objects.deepEquals(seen, wanted)) {
            throw new AssertionError(what + ": " + show(seen)
                    + " instead of " + show(wanted));
        }
    }

    static String show(Object value) {
        return value instanceof Object[] array ? Arrays.deepToString(array)
                : String.valueOf(value);
    }

    static SQLException fails(String sqlState, Body body) throws Exception {
        try {
            body.run();
        } catch (SQLException error) {
            expect(error.getSQLState(), sqlState, "SQLSTATE of " + error);
            return error;
        }
        throw new AssertionError("no error, instead of " + sqlState);
    }

    /* Bind as each Java type naturally goes: String by setString, Long by
     * setLong, Integer by setInt. */
    static PreparedStatement bind(PreparedStatement statement,
            Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            if (values[i] instanceof String[] texts) {
                statement.setArray(i + 1, statement.getConnection()
                        .createArrayOf("text", texts));
            } else if (values[i] instanceof String text) {
                statement.setString(i + 1, text);
            } else if (values[i] instanceof Long number) {
                statement.setLong(i + 1, number);
            } else if (values[i] instanceof Integer number) {
                statement.setInt(i + 1, number);
            } else {
                statement.setObject(i + 1, values[i]);
            }
        }
        return statement;
    }

    static void execute(Connection conn, String sql, Object... values)
            throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            bind(statement, values).execute();
        }
    }

    /*
     * Not by the constructor that takes a text: it makes nothing of "30 s",
     * and says so with an interval of zero.
     */
    static PGInterval interval(double seconds) {
        return new PGInterval(0, 0, 0, 0, 0, seconds);
    }

    /* The first column of the only row */
    static Object ask(Connection conn, String sql, Object... values)
            throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql);
             ResultSet row = bind(statement, values).executeQuery()) {
            row.next();
            return row.getObject(1);
        }
    }

    static List<Message> messages(Connection conn, String call,
            Object... values) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(
                "SELECT *, payload ->> 'id' AS order_id FROM queue." + call);
             ResultSet rows = bind(statement, values).executeQuery()) {
            List<Message> found = new ArrayList<>();
            while (rows.next()) {
                found.add(Message.of(rows));
            }
            return found;
        }
    }

    static List<Message> dequeue(Connection conn, int most, String wait)
            throws SQLException {
        return messages(conn,
                "dequeue(?, max => ?, wait => ?::interval)",
                QUEUE, most, wait);
    }

    static List<Message> receive(Connection conn, int most, String wait,
            String lease) throws SQLException {
        return messages(conn,
                "receive(?, ?, wait => ?::interval, lease => ?::interval)",
                QUEUE, most, wait, lease);
    }

    static Message receive(Connection conn) throws SQLException {
        return only(receive(conn, 1, LONG, LONG));
    }

    static Message only(List<Message> messages) {
        expect(messages.size(), 1, "number of messages");
        return messages.get(0);
    }

    static List<Long> orderIds(List<Message> messages) {
        return messages.stream().map(Message::orderId).toList();
    }

    static List<Integer> attempts(List<Message> messages) {
        return messages.stream().map(Message::attempt).toList();
    }

    static String[] receipts(List<Message> messages) {
        return messages.stream().map(Message::receipt).toArray(String[]::new);
    }

    static void enqueue(Connection conn, long... ids) throws SQLException {
        for (long id : ids) {
            ask(conn, "SELECT queue.enqueue(?, ?::jsonb)", QUEUE,
                    "{\"id\": " + id + "}");
        }
    }

    static String shipments(Connection conn) throws SQLException {
        return (String) ask(conn, "SELECT coalesce(string_agg(order_id::text,"
                + " ',' ORDER BY order_id), '') FROM shop.shipments");
    }

    /* How many messages the queue table holds */
    static long waiting(Connection conn) throws SQLException {
        return (Long) ask(conn, "SELECT count(*) FROM shop.order_placed");
    }

    static void books(Connection conn, String shipments, long waiting)
            throws SQLException {
        expect(shipments(conn), shipments, "shipments");
        expect(waiting(conn), waiting, "left in the queue");
    }

    static int pid(Connection conn) throws SQLException {
        return conn.unwrap(PGConnection.class).getBackendPID();
    }

    /*
     * Run call() on connection sleeper in a thread, waker() once it sleeps;
     * the result of call(), which must have come sooner than it was willing
     * to wait.
     */
    static <T> T wokenBy(Connection sleeper, Callable<T> call, Body waker)
            throws Exception {
        int pid = pid(sleeper);
        ExecutorService thread = Executors.newSingleThreadExecutor();
        try (Connection observer = simple().getConnection()) {
            Future<T> future = thread.submit(call);
            long deadline = System.nanoTime() + TimeUnit.MINUTES.toNanos(1);
            while (!future.isDone() && !(Boolean) ask(observer,
                    "SELECT shop.is_asleep(?)", pid)) {
                if (System.nanoTime() > deadline) {
                    throw new AssertionError("the consumer never sleeps");
                }
                Thread.sleep(10);
            }
            if (future.isDone()) {
                throw new AssertionError("it did not sleep: " + future.get());
            }
            long started = System.nanoTime();
            try {
                waker.run();
                return future.get(1, TimeUnit.MINUTES);
            } catch (ExecutionException failure) {
                if (failure.getCause() instanceof SQLException error) {
                    throw error;
                }
                throw failure;
            } finally {
                long seconds = TimeUnit.NANOSECONDS.toSeconds(
                        System.nanoTime() - started);
                if (seconds >= LONG_SECONDS / 2) {
                    throw new AssertionError(
                            "woken only after " + seconds + " s");
                }
            }
        } finally {
            thread.shutdownNow();
        }
    }

    /* An Xid as a transaction manager makes them */
    static Xid xid(String name) {
        byte[] global = ("queue-jdbc " + name).getBytes();
        return new Xid() {
            @Override
            public int getFormatId() {
                return 1;
            }

            @Override
            public byte[] getGlobalTransactionId() {
                return global;
            }

            @Override
            public byte[] getBranchQualifier() {
                return new byte[] {1};
            }
        };
    }

    static {
        check("enqueue takes a JSON object, dequeue returns it", shop -> {
            Connection conn = shop.conn;
            String order = "{\"n\": [1, 2.5, null], \"id\": 1, \"item\":"
                    + " \"gr\u00fcner 'Tee' \\\\ ? \u2603\"}";
            placeOrder(shop.pool, 1, "tea", order);
            Message message = only(dequeue(conn, 1, "0"));
            expect(message.payload(), order, "payload");
            expect(new Object[] {message.receipt(), message.attempt(),
                message.priority(), message.headers(),
                message.correlationId(), message.groupKey()},
                new Object[] {null, 1, 4, null, null, null},
                "other columns");
            Duration age = Duration.between(message.enqueuedAt(),
                    OffsetDateTime.now());
            expect(age.toHours(), 0L, "age " + age);
        });

        check("a JSON parameter: ?::jsonb, PGobject, Types.OTHER,"
                + " a plain String", shop -> {
            Connection conn = shop.conn;
            PGobject json = new PGobject();
            json.setType("jsonb");
            json.setValue("{\"id\": 2}");
            enqueue(conn, 1);
            ask(conn, "SELECT queue.enqueue(?, ?)", QUEUE, json);
            try (PreparedStatement statement = conn.prepareStatement(
                    "SELECT queue.enqueue(?, ?)")) {
                statement.setString(1, QUEUE);
                statement.setObject(2, "{\"id\": 3}", Types.OTHER);
                statement.execute();
            }
            ask(conn, "SELECT queue.enqueue(?, ?)", QUEUE, "{\"id\": 4}");
            fails("22P02", () -> ask(conn, "SELECT queue.enqueue(?, ?)",
                    QUEUE, "no JSON"));
            expect(orderIds(dequeue(conn, 10, "0")), List.of(1L, 2L, 3L, 4L),
                    "messages");
        });

        check("byte[] as a body, one and many, without a cast", shop -> {
            Connection conn = shop.conn;
            byte[] all = new byte[256];
            for (int i = 0; i < all.length; i++) {
                all[i] = (byte) i;
            }
            byte[][] bodies = {all, {}, {0}, "\\x41 'quoted'".getBytes()};
            try (PreparedStatement one = conn.prepareStatement(
                         "SELECT queue.enqueue_bytes(?, ?, ?)");
                 PreparedStatement many = conn.prepareStatement(
                         "SELECT queue.enqueue_bytes_batch(?, ?, ?)")) {
                one.setString(1, QUEUE);
                one.setBytes(2, bodies[0]);
                one.setString(3, "application/x-test");
                one.execute();
                many.setString(1, QUEUE);
                many.setArray(2, conn.createArrayOf("bytea",
                        Arrays.copyOfRange(bodies, 1, 4)));
                many.setString(3, "text/plain");
                many.execute();
            }
            try (PreparedStatement insert = conn.prepareStatement(
                    "INSERT INTO shop.order_placed (body) VALUES (?)")) {
                insert.setBytes(1, all);
                insert.execute();
            }
            List<byte[]> found = new ArrayList<>();
            List<String> types = new ArrayList<>();
            try (PreparedStatement take = conn.prepareStatement(
                    "SELECT * FROM queue.dequeue(?, max => ?)")) {
                take.setString(1, QUEUE);
                take.setLong(2, 10);
                try (ResultSet row = take.executeQuery()) {
                    while (row.next()) {
                        found.add(row.getBytes("body"));
                        types.add(row.getString("content_type"));
                        expect(row.getString("payload"), null, "payload");
                    }
                }
            }
            expect(found.toArray(), new byte[][] {all, bodies[1], bodies[2],
                bodies[3], all}, "bodies");
            expect(types, Arrays.asList("application/x-test", "text/plain",
                    "text/plain", "text/plain", null), "content types");
        });

        check("stringtype=unspecified: no cast but of an array", shop -> {
            PGSimpleDataSource source = simple();
            source.setStringType("unspecified");
            Connection conn = shop.connect(source);
            ask(conn, "SELECT queue.enqueue(?, ?)", QUEUE, "{\"id\": 1}");
            Message message = only(messages(conn,
                    "receive(?, wait => ?, lease => ?)", QUEUE, "0", LONG));
            expect(ackAll(conn, message.receipt()), 1, "acknowledged");
        });

        check("enqueue with headers and correlation id by name", shop -> {
            Connection conn = shop.conn;
            Object id = ask(conn, "SELECT queue.enqueue(queue => ?,"
                    + " payload => ?::jsonb, correlation_id => ?,"
                    + " headers => ?::jsonb)",
                    QUEUE, "[1, 2]", "c-1", "{\"trace\": \"t\"}");
            Message message = only(messages(conn, "dequeue(?)", QUEUE));
            expect(new Object[] {message.id(), message.payload(),
                message.correlationId(), message.headers()},
                new Object[] {id, "[1, 2]", "c-1", "{\"trace\": \"t\"}"},
                "message");
        });

        check("enqueue rolls back with the business row", shop -> {
            placeOrder(shop.pool, 1, "tea", "{\"id\": 1}");
            fails("23505", () -> placeOrder(shop.pool, 1, "coffee",
                    "{\"id\": 2}"));
            shop.conn.setAutoCommit(false);
            enqueue(shop.conn, 3);
            shop.conn.rollback();
            expect(orderIds(dequeue(shop.conn, 10, "0")), List.of(1L),
                    "messages");
        });

        check("enqueue_batch with arrays, headers and correlation ids with"
                + " NULLs", shop -> {
            String[] orders = {"{\"id\": 1}", "{\"a\": \"{,\\\"\\\\\"}",
                "[1, [2]]"};
            String[] headers = {"{\"trace\": \"a\"}", null, "{}"};
            String[] correlationIds = {null, "b", "NULL"};
            Long[] ids = placeOrders(shop.conn, orders, headers,
                    correlationIds);
            List<Message> messages = dequeue(shop.conn, 10, "0");
            expect(messages.stream().map(Message::id).toArray(), ids, "ids");
            expect(messages.stream().map(Message::payload).toArray(),
                    orders, "payloads");
            expect(messages.stream().map(Message::headers).toArray(),
                    headers, "headers");
            expect(messages.stream().map(Message::correlationId).toArray(),
                    correlationIds, "correlation ids");
        });

        check("enqueue_batch with no messages, and with NULLs only beside"
                + " them", shop -> {
            String[] none = {};
            String[] one = {null};
            expect(placeOrders(shop.conn, none, none, none).length, 0,
                    "ids of an empty batch");
            expect(placeOrders(shop.conn, new String[] {"{}"}, one, one)
                    .length, 1, "ids");
            fails("22023", () -> placeOrders(shop.conn,
                    new String[] {"{}"}, new String[] {null, null}, one));
        });

        check("dequeue and a business row commit together", shop -> {
            enqueue(shop.conn, 1, 2, 3);
            expect(shipOrders(shop.pool, 2, "0"), 2, "shipped");
            books(shop.conn, "1,2", 1);
        });

        check("dequeue rolled back gives the message back, and counts an"
                + " attempt", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2);
            execute(conn, "INSERT INTO shop.shipments VALUES (2)");
            fails("23505", () -> shipOrders(shop.pool, 2, "0"));
            books(conn, "2", 2);
            for (long id = 1; id <= 2; id++) {
                Message message = only(dequeue(conn, 1, LONG));
                expect(message.orderId(), id, "redelivered");
                expect(message.attempt(), 2, "attempt");
            }
        });

        check("dequeue in a savepoint that is rolled back", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2);
            conn.setAutoCommit(false);
            expect(orderIds(dequeue(conn, 1, "0")), List.of(1L), "first");
            Savepoint second = conn.setSavepoint();
            expect(orderIds(dequeue(conn, 1, "0")), List.of(2L), "second");
            conn.rollback(second);
            conn.commit();
            Message message = only(dequeue(conn, 1, LONG));
            expect(message.orderId(), 2L, "given back");
            expect(message.attempt(), 2, "attempt");
            conn.commit();
        });

        check("autosave=always: an error in the middle of a transaction",
                shop -> {
            PGSimpleDataSource source = simple();
            source.setAutosave(AutoSave.ALWAYS);
            Connection conn = shop.connect(source);
            conn.setAutoCommit(false);
            enqueue(conn, 1, 2);
            conn.commit();
            expect(orderIds(dequeue(conn, 1, "0")), List.of(1L), "first");
            fails("QU004", () -> ackAll(conn, "garbage"));
            fails("22012", () -> ask(conn, "SELECT 1 / count(*) FROM"
                    + " queue.dequeue(?) WHERE id < 0", QUEUE));
            execute(conn, "INSERT INTO shop.shipments VALUES (1)");
            conn.commit();
            books(conn, "1", 1);
            Message message = only(dequeue(conn, 1, LONG));
            expect(message.orderId(), 2L, "given back by the savepoint");
            expect(message.attempt(), 2, "attempt");
            conn.commit();
        });

        check("a fetch size: a portal that is read in steps", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2, 3, 4, 5);
            conn.setAutoCommit(false);
            try (PreparedStatement take = conn.prepareStatement(
                    "SELECT * FROM queue.dequeue(?, max => ?)")) {
                take.setFetchSize(2);
                int count = 0;
                try (ResultSet rows = bind(take, QUEUE, 5).executeQuery()) {
                    while (rows.next()) {
                        count++;
                    }
                }
                expect(count, 5, "messages");
            }
            conn.commit();
            expect(waiting(conn), 0L, "left");
        });

        check("INSERT in a batch of the driver, generated keys, COPY",
                shop -> {
            PGSimpleDataSource source = simple();
            source.setReWriteBatchedInserts(true);
            for (DataSource each : List.of(simple(), source)) {
                Connection conn = shop.connect(each);
                List<Long> keys = new ArrayList<>();
                try (PreparedStatement insert = conn.prepareStatement(
                        "INSERT INTO shop.order_placed"
                        + " (payload, correlation_id) VALUES (?::jsonb, ?)",
                        new String[] {"id"})) {
                    for (int id = 1; id <= 3; id++) {
                        bind(insert, "{\"id\": " + id + "}", "c").addBatch();
                    }
                    insert.executeBatch();
                    try (ResultSet row = insert.getGeneratedKeys()) {
                        while (row.next()) {
                            keys.add(row.getLong("id"));
                        }
                    }
                }
                expect(conn.unwrap(PGConnection.class).getCopyAPI().copyIn(
                        "COPY shop.order_placed (payload) FROM STDIN",
                        new StringReader("{\"id\": 4}\n")), 1L, "copied");
                List<Message> messages = dequeue(conn, 10, "0");
                expect(orderIds(messages), List.of(1L, 2L, 3L, 4L),
                        "messages");
                expect(messages.stream().map(Message::id).limit(3).toList(),
                        keys, "keys");
            }
        });

        check("SELECT queue.enqueue in a batch of the driver", shop -> {
            Connection conn = shop.conn;
            conn.setAutoCommit(false);
            try (PreparedStatement batch = conn.prepareStatement(
                    "SELECT queue.enqueue(?, ?::jsonb)")) {
                for (int id = 1; id <= 3; id++) {
                    bind(batch, QUEUE, "{\"id\": " + id + "}").addBatch();
                }
                batch.executeBatch();
                conn.commit();
                bind(batch, QUEUE, "{\"id\": 4}").addBatch();
                bind(batch, QUEUE, null).addBatch();
                try {
                    batch.executeBatch();
                    throw new AssertionError("no error");
                } catch (BatchUpdateException error) {
                    expect(error.getSQLState(), "22004", "SQLSTATE");
                    conn.rollback();
                }
            }
            expect(orderIds(dequeue(conn, 10, "0")), List.of(1L, 2L, 3L),
                    "messages");
            conn.commit();
        });

        check("receive and ack with the business row", shop -> {
            placeOrder(shop.pool, 1, "tea", "{\"id\": 1}");
            expect(shipSlowly(shop.pool, id -> { }, LONG), "shipped",
                    "outcome");
            books(shop.conn, "1", 0);
            expect(shipSlowly(shop.pool, id -> { }, LONG), "nothing to do",
                    "outcome");
        });

        check("ack rolled back with the business row leaves the lease",
                shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1);
            Message message = receive(conn);
            conn.setAutoCommit(false);
            execute(conn, "INSERT INTO shop.shipments VALUES (1)");
            execute(conn, "SELECT queue.ack(?)", message.receipt());
            conn.rollback();
            books(conn, "", 1);
            expect(receive(conn, 1, "0", LONG), List.of(), "while leased");
            execute(conn, "SELECT queue.ack(?)", message.receipt());
            conn.commit();
            books(conn, "", 0);
        });

        check("ack of an array; duplicates count once; an empty one is 0",
                shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2, 3);
            String[] all = receipts(receive(conn, 3, "0", LONG));
            expect(ackAll(conn, all[0], all[1], all[0]), 2, "of three given");
            expect(ackAll(conn), 0, "of none");
            expect(ask(conn, "SELECT queue.ack(?)",
                    (Object) new String[] {all[2]}), 1, "of one");
            expect(waiting(conn), 0L, "left");
        });

        check("a receipt outlives its connection, and settles from another",
                shop -> {
            Connection first = shop.connect();
            enqueue(first, 1);
            Message message = receive(first);
            first.close();
            expect(receive(shop.conn, 1, "0", LONG), List.of(),
                    "while leased");
            execute(shop.conn, "SELECT queue.ack(?)", message.receipt());
            expect(waiting(shop.conn), 0L, "left");
        });

        check("nack: back after its delay, with one attempt more", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1);
            expect(shipSlowly(shop.pool, id -> {
                throw new IllegalStateException("printer jam\0");
            }, LONG), "later", "outcome");
            Message message = receive(conn);
            expect(message.attempt(), 2, "attempt");
            execute(conn, "SELECT queue.nack(?, ?, ?)", message.receipt(),
                    interval(3600), "out of paper");
            expect(receive(conn, 1, "0", LONG), List.of(), "within the hour");
            expect(waiting(conn), 1L, "left");
        });

        check("nack and release of arrays; a release counts no attempt",
                shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2);
            execute(conn, "SELECT queue.release(?)",
                    (Object) receipts(receive(conn, 2, "0", LONG)));
            List<Message> messages = receive(conn, 2, "0", LONG);
            expect(attempts(messages), List.of(1, 1), "attempts");
            execute(conn, "SELECT queue.nack(?, delay => ?::interval)",
                    receipts(messages), "0");
            expect(receive(conn).attempt(), 2, "attempt");
            expect(receive(conn).attempt(), 2, "attempt");
        });

        check("reject moves the message to the dead letters with its reason",
                shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1);
            Message message = receive(conn);
            execute(conn, "SELECT queue.reject(?, ?)", message.receipt(),
                    "no such item");
            expect(ask(conn, "SELECT headers #>> '{dead_letter,reason}'"
                    + " || ' ' || (headers #>> '{dead_letter,source_id}')"
                    + " FROM queue.browse(?)", "shop.order_placed_dead"),
                    "no such item " + message.id(), "dead_letter header");
            expect(waiting(conn), 0L, "left");
        });

        check("extend with an interval, one receipt and several", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2);
            String[] all = receipts(receive(conn, 2, "0", LONG));
            try (PreparedStatement extend = conn.prepareStatement(
                    "SELECT queue.extend(?, ?)")) {
                bind(extend, all[0], interval(3600));
                try (ResultSet row = extend.executeQuery()) {
                    row.next();
                    long minutes = Duration.between(OffsetDateTime.now(),
                            row.getObject(1, OffsetDateTime.class))
                            .toMinutes();
                    expect(minutes > 55 && minutes < 65, true,
                            "deadline in " + minutes + " min");
                }
            }
            execute(conn, "SELECT queue.extend(?, ?::interval)", all, SHORT);
            Message again = receive(conn);
            expect(again.orderId(), 1L, "after it ran out");
            expect(again.attempt(), 2, "attempt");
            fails("QU001", () -> execute(conn,
                    "SELECT queue.extend(?, ?::interval)", all[0], LONG));
        });

        check("a wait that nobody ends", shop -> {
            expect(dequeue(shop.conn, 1, SHORT), List.of(), "dequeue");
            expect(receive(shop.conn, 1, SHORT, LONG), List.of(), "receive");
            waitForOrders(shop.conn, SHORT);
        });

        check("the driver reads \"20 s\" as an interval of zero", shop -> {
            expect(new PGInterval("20 s").getSeconds(), 0.0, "s");
            expect(new PGInterval("20 seconds").getSeconds(), 20.0,
                    "seconds");
        });

        check("dequeue with a wait, woken by the commit of another"
                + " connection", shop -> {
            Connection sleeper = shop.connect();
            List<Message> messages = wokenBy(sleeper,
                    () -> dequeue(sleeper, 10, LONG),
                    () -> placeOrder(shop.pool, 7, "tea", "{\"id\": 7}"));
            expect(orderIds(messages), List.of(7L), "messages");
            expect(waiting(shop.conn), 0L, "left");
        });

        check("receive with a wait, woken when the lease of another ends",
                shop -> {
            Connection sleeper = shop.connect();
            enqueue(shop.conn, 1);
            Message message = receive(shop.conn);
            Message again = wokenBy(sleeper, () -> receive(sleeper),
                    () -> execute(shop.conn, "SELECT queue.release(?)",
                            message.receipt()));
            expect(again.attempt(), 1, "attempt");
        });

        check("CALL queue.wait, one queue and several, also inside a"
                + " transaction", shop -> {
            Connection sleeper = shop.connect();
            wokenBy(sleeper, () -> {
                waitForOrders(sleeper, LONG);
                return null;
            }, () -> enqueue(shop.conn, 1));
            expect(orderIds(dequeue(sleeper, 1, "0")), List.of(1L), "woken");
            wokenBy(sleeper, () -> {
                execute(sleeper, "CALL queue.wait(?::regclass[],"
                        + " ?::interval)", new String[] {
                            "shop.order_placed", "shop.order_changed"}, LONG);
                return null;
            }, () -> enqueue(shop.conn, 2));
            expect(orderIds(dequeue(sleeper, 1, "0")), List.of(2L), "woken");
            sleeper.setAutoCommit(false);
            wokenBy(sleeper, () -> {
                execute(sleeper, "CALL queue.wait(queue => ?, timeout => ?)",
                        QUEUE, interval(LONG_SECONDS));
                return null;
            }, () -> enqueue(shop.conn, 3));
            expect(orderIds(dequeue(sleeper, 1, "0")), List.of(3L), "woken");
            sleeper.commit();
        });

        check("{call queue.wait(?, ?)} needs escapeSyntaxCallMode", shop -> {
            String escaped = "{call queue.wait(?, ?)}";
            fails("42809", () -> {
                try (CallableStatement wait = shop.conn.prepareCall(escaped)) {
                    bind(wait, QUEUE, interval(0.05)).execute();
                }
            });
            PGSimpleDataSource source = simple();
            source.setEscapeSyntaxCallMode("callIfNoReturn");
            Connection conn = shop.connect(source);
            try (CallableStatement wait = conn.prepareCall(escaped)) {
                bind(wait, QUEUE, interval(0.05)).execute();
            }
        });

        check("a wait is cancelled or times out, and the connection goes on",
                shop -> {
            Connection sleeper = shop.connect();
            try (PreparedStatement take = sleeper.prepareStatement(
                         "SELECT * FROM queue.dequeue(?,"
                         + " wait => ?::interval)");
                 PreparedStatement wait = sleeper.prepareStatement(
                         "CALL queue.wait(?::regclass, ?::interval)")) {
                for (PreparedStatement each : List.of(take, wait)) {
                    bind(each, QUEUE, LONG);
                    fails("57014", () -> wokenBy(sleeper, each::execute,
                            each::cancel));
                    each.setQueryTimeout(1);
                    fails("57014", each::execute);
                }
            }
            enqueue(shop.conn, 1);
            expect(attempts(dequeue(sleeper, 1, "0")), List.of(1), "attempt");
        });

        check("QU001 by getSQLState: the lease was lost, the business row"
                + " goes too", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1);
            Message stale = only(receive(conn, 1, "0", SHORT));
            Message current = receive(conn);
            expect(current.attempt(), 2, "attempt of the other consumer");
            conn.setAutoCommit(false);
            SQLException error = fails("QU001", () -> {
                execute(conn, "INSERT INTO shop.shipments VALUES (1)");
                execute(conn, "SELECT queue.ack(?)", stale.receipt());
            });
            String text = error.getMessage()
                    + ((PSQLException) error).getServerErrorMessage()
                            .getDetail();
            expect(text.contains(Long.toString(stale.id())), true,
                    "it names the message: " + text);
            conn.rollback();
            books(conn, "", 1);
            execute(conn, "INSERT INTO shop.shipments VALUES (1)");
            execute(conn, "SELECT queue.ack(?)", current.receipt());
            conn.commit();
            books(conn, "1", 0);
        });

        check("QU001 after another settled it: the consumer of the manual"
                + " copes", shop -> {
            enqueue(shop.conn, 1);
            expect(shipSlowly(shop.pool, id -> {
                try {
                    ask(shop.conn, "SELECT queue.purge(?)", QUEUE);
                } catch (SQLException error) {
                    throw new IllegalStateException(error);
                }
            }, LONG), "somebody else's now", "outcome");
            books(shop.conn, "", 0);
        });

        check("QU001 of one receipt undoes the ack of all", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2);
            String[] all = receipts(receive(conn, 2, "0", LONG));
            execute(conn, "SELECT queue.ack(?)", all[0]);
            fails("QU001", () -> ackAll(conn, all));
            expect(waiting(conn), 1L, "left");
            expect(ackAll(conn, all[1]), 1, "acknowledged");
        });

        check("other errors by getSQLState: QU002, QU004, 42809, 22023, 22004,"
                + " 0A000, 25006", shop -> {
            Connection conn = shop.conn;
            execute(conn, "SELECT queue.pause(?)", QUEUE);
            fails("QU002", () -> enqueue(conn, 1));
            fails("QU002", () -> dequeue(conn, 1, "0"));
            execute(conn, "SELECT queue.resume(?)", QUEUE);
            fails("QU004", () -> execute(conn, "SELECT queue.ack(?)",
                    "garbage"));
            fails("42809", () -> execute(conn,
                    "SELECT queue.enqueue('shop.orders', '{}')"));
            fails("22023", () -> dequeue(conn, 0, "0"));
            fails("22004", () -> execute(conn,
                    "SELECT queue.enqueue(?, ?::jsonb)", QUEUE, null));
            conn.setAutoCommit(false);
            conn.setTransactionIsolation(
                    Connection.TRANSACTION_REPEATABLE_READ);
            fails("0A000", () -> dequeue(conn, 1, SHORT));
            conn.rollback();
            conn.setTransactionIsolation(
                    Connection.TRANSACTION_READ_COMMITTED);
            conn.setReadOnly(true);
            fails("25006", () -> enqueue(conn, 1));
            conn.rollback();
            conn.setReadOnly(false);
            enqueue(conn, 1);
            conn.commit();
            expect(orderIds(dequeue(conn, 10, "0")), List.of(1L), "messages");
            conn.commit();
        });

        check("a wait under way ends with QU002 when the queue is paused",
                shop -> {
            Connection sleeper = shop.connect();
            fails("QU002", () -> wokenBy(sleeper,
                    () -> dequeue(sleeper, 1, LONG),
                    () -> execute(shop.conn, "SELECT queue.pause(?)",
                            QUEUE)));
        });

        check("max: setInt and setLong as they are", shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2, 3);
            expect(orderIds(messages(conn, "dequeue(?, ?)", QUEUE, 1)),
                    List.of(1L), "setInt");
            expect(orderIds(messages(conn, "dequeue(?, max => ?)",
                    QUEUE, Integer.MAX_VALUE + 1L)), List.of(2L, 3L),
                    "setLong");
        });

        check("PREPARE TRANSACTION after enqueue; COMMIT PREPARED elsewhere"
                + " wakes", shop -> {
            Connection prepared = shop.connect();
            Connection sleeper = shop.connect();
            prepared.setAutoCommit(false);
            execute(prepared, "INSERT INTO shop.orders VALUES (1, 'tea')");
            enqueue(prepared, 1);
            execute(prepared, "PREPARE TRANSACTION 'queue-jdbc enqueue'");
            prepared.close();
            expect(dequeue(shop.conn, 1, "0"), List.of(), "before");
            expect(orderIds(wokenBy(sleeper, () -> dequeue(sleeper, 1, LONG),
                    () -> execute(shop.conn,
                            "COMMIT PREPARED 'queue-jdbc enqueue'"))),
                    List.of(1L), "messages");
        });

        check("XA: enqueue in one resource, recovered and committed by"
                + " another", shop -> {
            Connection sleeper = shop.connect();
            PGXADataSource source = located(new PGXADataSource());
            var first = source.getXAConnection();
            var second = source.getXAConnection();
            try {
                Xid xid = xid("enqueue");
                XAResource resource = first.getXAResource();
                resource.start(xid, XAResource.TMNOFLAGS);
                enqueue(first.getConnection(), 1);
                resource.end(xid, XAResource.TMSUCCESS);
                expect(resource.prepare(xid), XAResource.XA_OK, "vote");
                first.close();
                expect(dequeue(shop.conn, 1, "0"), List.of(), "before");
                Xid found = null;
                for (Xid each : second.getXAResource().recover(
                        XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN)) {
                    if (Arrays.equals(each.getGlobalTransactionId(),
                            xid.getGlobalTransactionId())) {
                        found = each;
                    }
                }
                Xid recovered = Objects.requireNonNull(found);
                expect(orderIds(wokenBy(sleeper,
                        () -> dequeue(sleeper, 1, LONG),
                        () -> second.getXAResource().commit(recovered,
                                false))), List.of(1L), "messages");
            } finally {
                second.close();
            }
        });

        check("XA: dequeue and ack; rollback gives back, commit consumes",
                shop -> {
            Connection conn = shop.conn;
            enqueue(conn, 1, 2);
            var source = located(new PGXADataSource()).getXAConnection();
            try {
                XAResource resource = source.getXAResource();
                for (String outcome : List.of("rollback", "commit")) {
                    Message leased = receive(conn);
                    Xid xid = xid(outcome);
                    resource.start(xid, XAResource.TMNOFLAGS);
                    Connection branch = source.getConnection();
                    Message taken = only(dequeue(branch, 1, LONG));
                    execute(branch, "SELECT queue.ack(?)", leased.receipt());
                    for (Message each : List.of(leased, taken)) {
                        execute(branch, "INSERT INTO shop.shipments"
                                + " VALUES (?)", each.orderId());
                    }
                    resource.end(xid, XAResource.TMSUCCESS);
                    resource.prepare(xid);
                    expect(dequeue(conn, 1, "0"), List.of(), "in doubt");
                    if (outcome.equals("rollback")) {
                        resource.rollback(xid);
                        books(conn, "", 2);
                        execute(conn, "SELECT queue.release(?)",
                                leased.receipt());
                    } else {
                        resource.commit(xid, false);
                        books(conn, "1,2", 0);
                    }
                }
            } finally {
                source.close();
            }
            expect(dequeue(conn, 1, "0"), List.of(), "left");
        });

        check("XA: one-phase commit", shop -> {
            var source = located(new PGXADataSource()).getXAConnection();
            try {
                XAResource resource = source.getXAResource();
                enqueue(shop.conn, 1);
                Xid xid = xid("one phase");
                resource.start(xid, XAResource.TMNOFLAGS);
                only(dequeue(source.getConnection(), 1, "0"));
                resource.end(xid, XAResource.TMSUCCESS);
                resource.commit(xid, true);
                expect(waiting(shop.conn), 0L, "left");
            } finally {
                source.close();
            }
        });

        check("a pooled connection goes on after an error", shop -> {
            PooledConnection physical = located(
                    new PGConnectionPoolDataSource()).getPooledConnection();
            try {
                enqueue(shop.conn, 1);
                int pid = 0;
                for (String sql : List.of("SELECT queue.ack('garbage')",
                        "SELECT 1 / 0")) {
                    try (Connection conn = physical.getConnection()) {
                        expect(pid == 0 || pid == pid(conn), true, "pid");
                        pid = pid(conn);
                        conn.setAutoCommit(false);
                        only(dequeue(conn, 1, LONG));
                        try {
                            execute(conn, sql);
                            throw new AssertionError("no error: " + sql);
                        } catch (SQLException expected) {
                            fails("25P02", () -> dequeue(conn, 1, "0"));
                        }
                    }
                }
                Message message;
                try (Connection conn = physical.getConnection()) {
                    message = receive(conn);
                    expect(message.attempt(), 3, "attempt");
                    execute(conn, "DISCARD ALL");
                }
                try (Connection conn = physical.getConnection()) {
                    expect(pid(conn), pid, "pid");
                    execute(conn, "SELECT queue.ack(?)", message.receipt());
                }
                expect(waiting(shop.conn), 0L, "left");
            } finally {
                physical.close();
            }
        });

        check("prepared statements, over and over, with binary results",
                shop -> {
            Connection conn = shop.conn;
            try (PreparedStatement enqueue = conn.prepareStatement(
                         "SELECT queue.enqueue(?, ?::jsonb)");
                 PreparedStatement receive = conn.prepareStatement(
                         "SELECT *, payload ->> 'id' AS order_id"
                         + " FROM queue.receive(?, max => ?)");
                 PreparedStatement ack = conn.prepareStatement(
                         "SELECT queue.ack(?)");
                 PreparedStatement dequeue = conn.prepareStatement(
                         "SELECT *, payload ->> 'id' AS order_id"
                         + " FROM queue.dequeue(?, max => ?)")) {
                for (long id = 0; id < 20; id++) {
                    bind(enqueue, QUEUE, "{\"id\": " + id + "}").execute();
                    PreparedStatement take = id % 2 == 0 ? receive : dequeue;
                    try (ResultSet rows = bind(take, QUEUE, 10)
                            .executeQuery()) {
                        rows.next();
                        Message message = Message.of(rows);
                        expect(message.orderId(), id, "message");
                        expect(message.attempt(), 1, "attempt");
                        if (take == receive) {
                            bind(ack, message.receipt()).execute();
                        }
                        expect(rows.next(), false, "another");
                    }
                }
            }
            long count = (Long) ask(conn, "SELECT count(*) FROM"
                    + " pg_prepared_statements"
                    + " WHERE statement LIKE '%queue.%'");
            expect(count >= 4, true, count + " prepared statements");
            expect(waiting(conn), 0L, "left");
        });

        check("a connection closed in mid-transaction gives its messages"
                + " back", shop -> {
            Connection gone = shop.connect();
            Connection sleeper = shop.connect();
            enqueue(shop.conn, 1);
            gone.setAutoCommit(false);
            Message message = only(dequeue(gone, 1, "0"));
            Message again = only(wokenBy(sleeper,
                    () -> dequeue(sleeper, 1, LONG),
                    () -> gone.abort(Runnable::run)));
            expect(again.id(), message.id(), "redelivered");
            expect(again.attempt(), 2, "attempt");
        });

        check("a terminated backend gives its messages back", shop -> {
            Connection gone = shop.connect();
            Connection sleeper = shop.connect();
            enqueue(shop.conn, 1);
            gone.setAutoCommit(false);
            Message message = only(dequeue(gone, 1, "0"));
            Message again = only(wokenBy(sleeper,
                    () -> dequeue(sleeper, 1, LONG),
                    () -> ask(shop.conn, "SELECT pg_terminate_backend(?)",
                            pid(gone))));
            expect(again.id(), message.id(), "redelivered");
            expect(again.attempt(), 2, "attempt");
            fails("57P01", () -> execute(gone, "SELECT 1"));
        });

        check("consumers in threads share the work", shop -> {
            String[] orders = new String[200];
            StringBuilder all = new StringBuilder("0");
            Arrays.setAll(orders, id -> "{\"id\": " + id + "}");
            for (int id = 1; id < orders.length; id++) {
                all.append(',').append(id);
            }
            placeOrders(shop.conn, orders, null, null);
            ExecutorService threads = Executors.newFixedThreadPool(2);
            try {
                Callable<Void> consume = () -> {
                    while (shipOrders(shop.pool, 7, "0") > 0) {
                        continue;
                    }
                    return null;
                };
                for (Future<Void> each : threads.invokeAll(
                        List.of(consume, consume))) {
                    each.get();
                }
            } finally {
                threads.shutdownNow();
            }
            books(shop.conn, all.toString(), 0);
        });
    }

    static {
        check("the work fails when another has the message: QU001 is coped"
                + " with", shop -> {
            enqueue(shop.conn, 1);
            List<Message> taken = new ArrayList<>();
            expect(shipSlowly(shop.pool, id -> {
                try {
                    taken.add(receive(shop.conn));
                } catch (SQLException error) {
                    throw new AssertionError(error);
                }
                throw new IllegalStateException("too slow");
            }, SHORT), "somebody else's now", "outcome");
            expect(attempts(taken), List.of(2), "the other's attempt");
            execute(shop.conn, "SELECT queue.ack(?)",
                    taken.get(0).receipt());
            books(shop.conn, "", 0);
        });

        check("COMMIT of a transaction that has failed is no success",
                shop -> {
            fails("25P02", () -> transaction(shop.pool, conn -> {
                enqueue(conn, 1);
                try {
                    ask(conn, "SELECT 1 / 0");
                } catch (SQLException expected) {
                    return null;
                }
                return null;
            }));
            expect(waiting(shop.conn), 0L, "sent");
        });

        check("PREPARE TRANSACTION and XA of a transaction that has failed"
                + " are errors", shop -> {
            Connection conn = shop.connect();
            conn.setAutoCommit(false);
            enqueue(conn, 1);
            fails("22012", () -> ask(conn, "SELECT 1 / 0"));
            fails("25P02", () -> execute(conn,
                    "PREPARE TRANSACTION 'queue-jdbc failed'"));
            conn.rollback();
            var source = located(new PGXADataSource()).getXAConnection();
            try {
                XAResource resource = source.getXAResource();
                Xid xid = xid("failed");
                resource.start(xid, XAResource.TMNOFLAGS);
                Connection branch = source.getConnection();
                enqueue(branch, 1);
                fails("22012", () -> ask(branch, "SELECT 1 / 0"));
                resource.end(xid, XAResource.TMSUCCESS);
                try {
                    resource.prepare(xid);
                    throw new AssertionError("no error");
                } catch (XAException expected) {
                    expect(((SQLException) expected.getCause())
                            .getSQLState(), "25P02", "SQLSTATE");
                }
            } finally {
                source.close();
            }
            expect(waiting(shop.conn), 0L, "sent");
        });

        check("a pool without autocommit, which rolls back: the lease lasts",
                shop -> {
            enqueue(shop.conn, 1);
            expect(shipSlowly(withoutAutocommit(), id -> {
                try {
                    expect(receive(shop.conn, 1, "0", LONG), List.of(),
                            "leased");
                } catch (SQLException error) {
                    throw new AssertionError(error);
                }
            }, LONG), "shipped", "outcome");
            books(shop.conn, "1", 0);
        });

        check("a connection that breaks does not hide what failed before",
                shop -> {
            try {
                transaction(shop.pool, conn -> {
                    enqueue(conn, 1);
                    ask(shop.conn, "SELECT pg_terminate_backend(?, 60000)",
                            pid(conn));
                    throw new IllegalStateException("the first failure");
                });
                throw new AssertionError("no error");
            } catch (IllegalStateException failure) {
                expect(failure.getMessage(), "the first failure", "failure");
            }
            expect(waiting(shop.conn), 0L, "sent");
        });

        check("restarts, crashes and ended sessions: each order is shipped"
                + " once", shop -> {
            String[] orders = new String[ORDERS];
            Arrays.setAll(orders, n -> "{\"id\": " + (n + 1) + "}");
            placeOrders(shop.conn, orders, null, null);
            List<Body> faults = List.of(Shop::terminateConsumer,
                    () -> server("restart"), Shop::terminateConsumer,
                    () -> server("crash", "start"));
            Process program = startConsumer("quickly");
            try {
                long shipped = 0;
                for (Body fault : faults) {
                    shipped += 40;
                    until(program, "SELECT count(*) >= " + shipped
                            + " FROM shop.shipments");
                    fault.run();
                }
                until(program, "SELECT count(*) = 0 FROM shop.order_placed");
                stopConsumer(program);
            } finally {
                program.destroyForcibly();
            }
            expect(askAnew("SELECT count(*) || ' ' || min(order_id) || ' '"
                    + " || max(order_id) FROM shop.shipments"),
                    ORDERS + " 1 " + ORDERS, "shipments");
            expect(askAnew("SELECT count(*) FROM shop.order_placed_dead"),
                    0L, "dead letters");
        });

        check("SIGTERM: what is at hand is finished, and the status is 0",
                shop -> {
            Process program = startConsumer();
            try {
                until(program, "SELECT count(*) > 0 FROM pg_stat_activity"
                        + " WHERE application_name = '" + CONSUMER + "'");
                enqueue(shop.conn, 0);
                expect(program.inputReader().readLine(), "at work",
                        "what it does");
                stopConsumer(program);
            } finally {
                program.destroyForcibly();
            }
            books(shop.conn, "0", 0);
        });
    }

    /*
     * As pools do that are told to: connections without autocommit, which are
     * rolled back when they are given back.
     */
    static DataSource withoutAutocommit() {
        DataSource source = simple();
        return proxy(DataSource.class, source, (method, opened) -> {
            if (!method.equals("getConnection")) {
                return opened;
            }
            Connection conn = (Connection) opened;
            conn.setAutoCommit(false);
            return conn;
        });
    }

    interface Change {
        Object of(String method, Object result) throws SQLException;
    }

    /* What a call on target returns, changed */
    static <T> T proxy(Class<T> type, T target, Change change) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(),
                new Class<?>[] {type}, (self, method, values) ->
                        change.of(method.getName(),
                                method.invoke(target, values))));
    }

    /*
     * This file with arguments is that program: it ships orders until SIGTERM,
     * slowly at least; its own fault is the first attempt at each seventh.
     */
    static void consumer(List<String> ways) throws Exception {
        CountDownLatch stop = stopAtSigterm();
        PGSimpleDataSource pool = simple();
        pool.setApplicationName(CONSUMER);
        Set<Long> failed = new HashSet<>();
        LongConsumer printLabel = id -> {
            if (id == 0) {
                System.out.println("at work");
                try {
                    Thread.sleep(1000);
                } catch (InterruptedException never) {
                    throw new IllegalStateException(never);
                }
            } else if (id % 7 == 0 && failed.add(id)) {
                throw new IllegalStateException("printer jam");
            }
        };
        int[] turns = {0};
        consume(pool, each -> ways.contains("quickly") && turns[0]++ % 2 == 1
                && shipOrders(each, 2, "0") > 0 ? "shipped"
                : shipSlowly(each, printLabel, "2 s"), stop);
    }

    static Process startConsumer(String... ways) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                ProcessHandle.current().info().command().orElse("java"),
                "-cp", System.getProperty("java.class.path"),
                System.getenv("SHOP_SOURCE"), "consumer"));
        command.addAll(List.of(ways));
        return new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT).start();
    }

    /* It is told to stop, and must obey. */
    static void stopConsumer(Process program) throws Exception {
        program.destroy();
        expect(program.waitFor(1, TimeUnit.MINUTES), true, "it ends");
        expect(program.exitValue(), 0, "status of the consumer");
    }

    static void terminateConsumer() throws Exception {
        askAnew("SELECT count(pg_terminate_backend(pid))"
                + " FROM pg_stat_activity WHERE application_name = '"
                + CONSUMER + "'");
    }

    static void server(String... commands) throws Exception {
        for (String command : commands) {
            expect(new ProcessBuilder(System.getenv("SERVER"), command,
                    System.getenv("SERVER_DIR"))
                    .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start().waitFor(), 0, "status of " + command);
        }
    }

    /* A value, over failures of the server */
    static Object askAnew(String sql) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MINUTES.toNanos(1);
        while (true) {
            try (Connection conn = simple().getConnection()) {
                return ask(conn, sql);
            } catch (SQLException error) {
                if (System.nanoTime() > deadline) {
                    throw error;
                }
                Thread.sleep(50);
            }
        }
    }

    static void until(Process program, String condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.MINUTES.toNanos(1);
        while (program.isAlive() && !(Boolean) askAnew(condition)) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("never came true: " + condition);
            }
            Thread.sleep(10);
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length > 0) {
            consumer(List.of(args));
            return;
        }
        boolean failed = false;
        for (Named each : CHECKS) {
            Shop shop = new Shop();
            try {
                ask(shop.conn, "SELECT shop.clear()");
                each.check().run(shop);
                System.out.println("ok - " + each.description());
            } catch (Exception | AssertionError failure) {
                failed = true;
                System.out.println("not ok - " + each.description());
                var trace = new StringWriter();
                failure.printStackTrace(new PrintWriter(trace));
                trace.toString().lines()
                        .filter(line -> !line.matches("\\s+at (java|jdk).*"))
                        .forEach(line -> System.out.println("# " + line));
            } finally {
                for (Connection opened : shop.connections) {
                    opened.close();
                }
            }
        }
        System.out.println("1.." + CHECKS.size());
        System.exit(failed ? 1 : 0);
    }
}
