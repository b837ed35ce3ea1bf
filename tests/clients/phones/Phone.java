import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

/**
 * A phone with OkHttp. Writes a line for each message and comes back whenever it has lost its connection.
 * Run: java -cp okhttp.jar:okio.jar:. Phone ws://host:port/mobile/SESSION [crash]
 * With `crash` it kills itself as soon as it has a whole bundle.
 */
public final class Phone extends WebSocketListener {
    private static final long RETRY_MS = 500;
    private static final Pattern ID = Pattern.compile("\\A\\{\"id\":(\\d+),\\s*\"type\":\"(\\w+)\"");
    private static final Pattern SYSTEM = Pattern.compile("\"type\":\"(\\w+)\"");

    private final boolean crashes;
    private final CountDownLatch ended = new CountDownLatch(1);

    private Phone(boolean crashes) {
        this.crashes = crashes;
    }

    public static void main(String[] arguments) throws InterruptedException {
        // The pings notice a cut network, which ends no connection by itself.
        OkHttpClient client = new OkHttpClient.Builder()
            .connectTimeout(3, TimeUnit.SECONDS)
            .pingInterval(2, TimeUnit.SECONDS)
            .build();
        Request request = new Request.Builder().url(arguments[0]).build();
        while (true) {
            Phone phone = new Phone(arguments.length > 1 && arguments[1].equals("crash"));
            client.newWebSocket(request, phone);
            phone.ended.await();
            Thread.sleep(RETRY_MS);
        }
    }

    @Override
    public void onMessage(WebSocket socket, String text) {
        Matcher numbered = ID.matcher(text);
        if (!numbered.find()) {
            Matcher system = SYSTEM.matcher(text);
            write("system " + (system.find() ? system.group(1) : text));
            return;
        }
        byte[] data = text.getBytes(StandardCharsets.UTF_8);
        boolean isBundle = numbered.group(2).equals("bundle_update");
        write(numbered.group(1) + " " + data.length + " " + (isBundle ? sha256(data) : "-"));
        if (isBundle && crashes) {
            crash();
        }
    }

    @Override
    public void onClosing(WebSocket socket, int code, String reason) {
        socket.close(1000, null);
    }

    @Override
    public void onClosed(WebSocket socket, int code, String reason) {
        ended.countDown();
    }

    @Override
    public void onFailure(WebSocket socket, Throwable cause, Response response) {
        ended.countDown();
    }

    private static String sha256(byte[] data) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible); // Every Java has SHA-256.
        }
    }

    /** Flushes, so that a line written is a line that survives SIGKILL. */
    private static void write(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** OkHttp reads on this thread. So it sees no ping until this returns, which it never does. */
    private static void crash() {
        try {
            new ProcessBuilder("kill", "-KILL", String.valueOf(ProcessHandle.current().pid())).start();
            new CountDownLatch(1).await();
        } catch (java.io.IOException | InterruptedException cause) {
            throw new IllegalStateException(cause);
        }
    }
}
