// Uploads that are refused, by the client of Java: it prints one line of JSON per length.
//
// Environment: GATEWAY (URL), ROUNDS, LENGTHS (bytes, by commas), CA (a file).

import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Uploads {
    public static void main(String[] arguments) throws Exception {
        var gateway = System.getenv("GATEWAY");
        var rounds = Integer.parseInt(System.getenv("ROUNDS"));
        var lengths = Arrays.stream(System.getenv("LENGTHS").split(",")).mapToInt(Integer::parseInt).toArray();
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (var file = new FileInputStream(System.getenv("CA"))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        for (var version : HttpClient.Version.values()) {
            var client = HttpClient.newBuilder().version(version).sslContext(context).build();
            for (int length : lengths) {
                List<String> failures = new ArrayList<>();
                for (int round = 0; round < rounds; round++) {
                    for (String[] step : new String[][] {
                        {"POST", "/me", "401"}, {"GET", "/public/x", "200"},
                        {"POST", "/tiny", "413"}, {"GET", "/public/x", "200"},
                    }) {
                        var body = step[0].equals("POST")
                            ? HttpRequest.BodyPublishers.ofByteArray(new byte[length])
                            : HttpRequest.BodyPublishers.noBody();
                        var request = HttpRequest.newBuilder(URI.create(gateway + step[1])).method(step[0], body).build();
                        String status;
                        try {
                            status = "" + client.send(request, HttpResponse.BodyHandlers.discarding()).statusCode();
                        } catch (Exception error) {
                            status = error.toString().replace('"', '\'');
                        }
                        if (!status.equals(step[2])) {
                            failures.add('"' + step[0] + " " + step[1] + ": " + status + '"');
                        }
                    }
                }
                System.out.println("{\"client\":\"java-" + version + "\",\"length\":" + length
                    + ",\"failures\":[" + String.join(",", failures) + "]}");
            }
        }
        System.exit(0);
    }
}
