// Sends POST /verify many times with the JDK's HTTP client, as its default settings have it, and prints how
// many responses were not 200. Arguments: base URL, API key of the verifier, number of requests, threads.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

public class VerifyInARow {
    public static void main(String[] arguments) throws Exception {
        String key = arguments[1];
        int threads = Integer.parseInt(arguments[3]);
        AtomicInteger left = new AtomicInteger(Integer.parseInt(arguments[2]));
        AtomicInteger failures = new AtomicInteger();
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/verify"))
            .timeout(Duration.ofSeconds(30))
            .header("content-type", "application/json")
            .header("x-api-key", key)
            .POST(HttpRequest.BodyPublishers.ofString("{\"api_key\":\"" + key + "\"}"))
            .build();
        var workers = Executors.newFixedThreadPool(threads);
        for (int thread = 0; thread < threads; thread++) {
            workers.submit(() -> {
                while (left.getAndDecrement() > 0) {
                    try {
                        var response = client.send(request, HttpResponse.BodyHandlers.ofString());
                        if (response.statusCode() != 200 || !response.body().contains("\"valid\":true")) {
                            System.err.println(response.statusCode() + " " + response.body());
                            failures.incrementAndGet();
                        }
                    } catch (Exception exception) {
                        System.err.println(exception);
                        failures.incrementAndGet();
                    }
                }
            });
        }
        workers.shutdown();
        boolean ended = workers.awaitTermination(120, TimeUnit.SECONDS);
        System.out.println("failures: " + (ended ? failures.get() : -1));
        System.exit(0);
    }
}
