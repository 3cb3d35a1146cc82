# Tables of `round load server rate us-a-request [us-of-the-machine]` lines: medians, and with a server `nginx` the medians of each round's ratio to it.
function median(list, n,    i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] + 0 < list[j - 1] + 0; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}
{
    rate[$1, $2, $3] = $4; cpu[$1, $2, $3] = $5; all[$1, $2, $3] = $6; if (NF > 5) has_all = 1; if ($1 > rounds) rounds = $1
    if (!($2 in load_seen)) { load_seen[$2]; loads[++n_loads] = $2 }
    if (!($3 in server_seen)) { server_seen[$3]; servers[++n_servers] = $3 }
}
END {
    medians(rate, "requests a second", "%12.0f"); medians(cpu, "server us/request", "%12.2f")
    if (has_all) medians(all, "machine us/request", "%12.2f")
    if (!("nginx" in server_seen)) exit
    ratios(rate, "rate / nginx"); ratios(cpu, "us/request / nginx")
    if (has_all) ratios(all, "machine / nginx")
}
function medians(of, title, form,    s, l, r, v) {
    printf "%-18s", title; for (l = 1; l <= n_loads; l++) printf "%12s", loads[l]; print ""
    for (s = 1; s <= n_servers; s++) {
        printf "%-18s", servers[s]
        for (l = 1; l <= n_loads; l++) { for (r = 1; r <= rounds; r++) v[r] = of[r, loads[l], servers[s]]; printf form, median(v, rounds) }
        print ""
    }
    print ""
}
function ratios(of, title,    s, l, r, v, m) {
    printf "%-18s", title; for (l = 1; l <= n_loads; l++) printf "%20s", loads[l]; print ""
    for (s = 1; s <= n_servers; s++) {
        if (servers[s] == "nginx") continue
        printf "%-18s", servers[s]
        for (l = 1; l <= n_loads; l++) {
            for (r = 1; r <= rounds; r++) v[r] = of[r, loads[l], servers[s]] / of[r, loads[l], "nginx"]
            m = median(v, rounds); printf "%20s", sprintf("%.2f (%.2f-%.2f)", m, v[1], v[rounds])
        }
        print ""
    }
    print ""
}
