import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Explains the rules of fwd to people: {@code java -jar report.jar /etc/fwd.conf}. */
public final class RuleReport {
    private RuleReport() {}

    /** One line of English a rule; comments and blank lines are left out. */
    static List<String> explain(List<String> lines) {
        List<String> report = new ArrayList<>();
        for (String line : lines) {
            String rule = line.strip();
            if (rule.isEmpty() || rule.startsWith("#")) {
                continue;
            }
            String[] word = rule.split("[ \t]+");
            if (word.length != 2 || !(word[0].equals("allow") || word[0].equals("deny"))) {
                throw new IllegalArgumentException("no rule: " + rule);
            }
            report.add("Packets from " + (word[1].equals("0.0.0.0/0") ? "anywhere" : word[1])
                    + (word[0].equals("allow") ? " pass." : " are dropped."));
        }
        return report;
    }

    public static void main(String[] args) throws IOException {
        if (args.length != 1) {
            System.err.println("usage: report.jar FILE");
            System.exit(2);
        }
        List<String> lines = new ArrayList<>();
        try (BufferedReader in = Files.newBufferedReader(Path.of(args[0]))) {
            in.lines().forEach(lines::add);
        }
        explain(lines).forEach(System.out::println);
    }
}
