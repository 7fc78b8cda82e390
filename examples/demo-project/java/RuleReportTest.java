import java.io.IOException;
import java.io.PrintWriter;
import java.util.List;

/**
 * The unit tests of RuleReport, without a library: a program that writes what it found to the file
 * named by its argument, as JUnit's runners do.
 */
public final class RuleReportTest {
    private static PrintWriter xml;
    private static int failures;

    private static void check(String name, boolean ok) {
        System.out.println((ok ? "ok     " : "not ok ") + name);
        xml.print("  <testcase classname=\"RuleReport\" name=\"" + name + "\"");
        xml.println(ok ? "/>" : "><failure message=\"does not hold\"/></testcase>");
        failures += ok ? 0 : 1;
    }

    private static boolean refuses(String line) {
        try {
            RuleReport.explain(List.of(line));
            return false;
        } catch (IllegalArgumentException e) {
            return true;
        }
    }

    public static void main(String[] args) throws IOException {
        xml = new PrintWriter(args[0], "UTF-8");
        xml.println("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        xml.println("<testsuite name=\"RuleReport\">");
        check("allow", RuleReport.explain(List.of("allow 10.0.0.0/8")).equals(List.of("Packets from 10.0.0.0/8 pass.")));
        check("deny all", RuleReport.explain(List.of("deny 0.0.0.0/0")).equals(List.of("Packets from anywhere are dropped.")));
        check("comments", RuleReport.explain(List.of("# a", "", "  ")).isEmpty());
        check("an unknown verb", refuses("permit 10.0.0.0/8"));
        check("a net too few", refuses("allow"));
        xml.println("</testsuite>");
        xml.close();
        System.exit(failures == 0 && !xml.checkError() ? 0 : 1);
    }
}
