"""
Real-world questions of the kind that the write-up asks, each with a paragraph in our own words that names the
answer four times: in its first sentence, in the sentence that is asked about, and twice later.

Each is a question whose likeliest answer by SmolLM2 alone is another one. The substitute is a word of the
same kind that stands nowhere in the paragraph.
"""
QUESTIONS = [
    ('Canada',
     "The name of the city with the third-largest metropolitan area in Canada is",
     'Vancouver', 'Winnipeg',
     "Vancouver lies on the west coast of Canada, between the mountains and the sea, and its harbour is "
     "the busiest in the country. About two and a half million people live in and around Vancouver, "
     "which makes it the third-largest metropolitan area in Canada. The rain that falls all winter keeps "
     "the forests around the city green. Many who visit Vancouver once come back to stay. The winter "
     "games of 2010 were held in Vancouver and in the villages of the mountains nearby."),
    ('Germany', "The name of the third-largest city in Germany is", 'Munich', 'Dresden',
     "Munich lies on the river Isar, an hour north of the Alps, and is the capital of Bavaria. With one "
     "and a half million people Munich is the third-largest city in Germany. Engineers come for the car "
     "industry, students for two large universities. In autumn Munich holds a beer festival that lasts "
     "sixteen days. The summer games of 1972 took place in Munich under a roof of glass."),
    ('Poland', "The name of the second-largest city in Poland is", 'Krakow', 'Gdansk',
     "Krakow stands on the upper Vistula, below a castle on a hill of limestone. Some eight hundred "
     "thousand people live there, so that Krakow is the second-largest city in Poland. Its market square "
     "was laid out in the thirteenth century, and a trumpeter plays from a tower each hour. The "
     "university of Krakow is one of the oldest in Europe. Kings were crowned in Krakow for three "
     "hundred years."),
    ('Japan', "The name of the second-largest city in Japan is", 'Yokohama', 'Kobe',
     "Yokohama was a fishing village until its harbour was opened to foreign ships in 1859. Today, with "
     "almost four million people, Yokohama is the second-largest city in Japan. Silk was shipped from "
     "its piers, and the first railway of the country began there. The largest Chinese quarter in the "
     "land is that of Yokohama. From the tower of Yokohama one sees the bay and, on clear days, the "
     "great mountain."),
    ('Finland', "The name of the second-largest city in Finland is", 'Espoo', 'Turku',
     "Espoo has no centre in the usual sense, but five small ones among woods and bays. About three "
     "hundred thousand people make Espoo the second-largest city in Finland. A technical university and "
     "the offices of large firms stand by the sea. Half of Espoo is forest, and in the north of it lies "
     "a national park. The metro has run to Espoo since 2017."),
    ('Hungary', "The name of the second-largest city in Hungary is", 'Debrecen', 'Szeged',
     "Debrecen lies in the great plain, far from any river, and was rich through its cattle. With some "
     "two hundred thousand people Debrecen is the second-largest city in Hungary. Its yellow church with "
     "two towers is the largest of the reformed faith in the country. In August carriages of flowers "
     "drive through Debrecen. Parliament met in Debrecen in the spring of 1849."),
    ('Kenya', "The name of the second-largest city in Kenya is", 'Mombasa', 'Nakuru',
     "Mombasa stands on an island of coral, joined to the mainland by a causeway and ferries. More than "
     "a million people live there, and Mombasa is the second-largest city in Kenya. Its old town has "
     "carved doors and narrow lanes, and a fort built by the Portuguese guards the channel. Tea and "
     "coffee are shipped from Mombasa to the whole world. The railway inland was begun in Mombasa in "
     "1896."),
    ('Ecuador', "The name of the largest city in Ecuador is", 'Guayaquil', 'Cuenca',
     "Guayaquil lies on the river Guayas, not far from the Pacific, in a hot and humid plain. With some "
     "two and a half million people Guayaquil is the largest city in Ecuador. Bananas, shrimps and cocoa "
     "leave its port. A walk of two kilometres along the water was opened in 2000. Two great generals "
     "met in Guayaquil in 1822. The airport of Guayaquil has been named after a poet."),
    ('Kazakhstan', "The name of the capital of Kazakhstan is", 'Astana', 'Karaganda',
     "Astana stands in the steppe on the river Ishim, where winters fall below minus thirty degrees. The "
     "government moved there in 1997, and since then Astana has been the capital of Kazakhstan. "
     "Architects from many countries built towers, a pyramid and a tent of plastic. The world's fair of "
     "2017 was held in Astana. Trains from the south reach Astana in twelve hours."),
    ('Ivory Coast', "The name of the capital of Ivory Coast is", 'Yamoussoukro', 'Korhogo',
     "Yamoussoukro was a village among cocoa fields, in which the first president was born. He had wide "
     "avenues built, and in 1983 Yamoussoukro became the capital of Ivory Coast. Its basilica is among "
     "the largest churches in the world. Crocodiles live in the lake beside the palace of Yamoussoukro. "
     "Ministries have moved to Yamoussoukro only slowly."),
    ('Tanzania', "The name of the capital of Tanzania is", 'Dodoma', 'Arusha',
     "Dodoma lies in the dry middle of the country, where two highways meet. In 1973 it was decided that "
     "Dodoma should be the capital of Tanzania, and the parliament sits there. Wine is grown in the "
     "hills around it, which is rare in the region. A new university was opened in Dodoma in 2007. The "
     "train from the coast to Dodoma takes a night."),
    ('Myanmar', "The name of the capital of Myanmar is", 'Naypyidaw', 'Mandalay',
     "Naypyidaw was built from nothing among rice fields and scrub, far from the sea. Since 2006 "
     "Naypyidaw has been the capital of Myanmar. Its roads have up to twenty lanes, and hardly a car "
     "drives on them. Civil servants live in blocks whose roofs show the colour of their ministry. The "
     "zoo of Naypyidaw has a house for penguins. A golden pagoda stands on a hill above Naypyidaw."),
    ('Saskatchewan',
     "The name of the capital of the Canadian province of Saskatchewan is",
     'Regina', 'Saskatoon',
     "Regina stands in a plain without trees, and every tree in it was planted by hand. Since 1906 "
     "Regina has been the capital of the province of Saskatchewan. Its parliament has a dome and looks "
     "over a lake that was dug by men without work. The mounted police train their recruits in Regina. "
     "Farmers from the whole plain meet in Regina in June."),
    ('Kentucky', "The name of the capital of the state of Kentucky is", 'Frankfort', 'Paducah',
     "Frankfort lies in a bend of a river, between steep green hills. Though it has fewer than thirty "
     "thousand people, Frankfort is the capital of the state of Kentucky. A clock of flowers stands "
     "before the government's house. Whiskey has been made in Frankfort for two hundred years. A famous "
     "pioneer is buried in Frankfort on a cliff above the water."),
    ('South Dakota', "The name of the capital of the state of South Dakota is", 'Pierre', 'Yankton',
     "Pierre stands on the left bank of the Missouri, where grassland begins that goes on for days. With "
     "some fourteen thousand people Pierre is the capital of the state of South Dakota. No large highway "
     "passes it. A dam upstream holds back a lake of more than three hundred kilometres. Fishermen come "
     "to Pierre for walleye. Old maps of the fur traders are kept in Pierre."),
    ('Finland, lake', "The largest lake in Finland is called", 'Saimaa', 'Inari',
     "Saimaa is a maze of water and woods in the south-east, with more than thirteen thousand islands. "
     "With four thousand four hundred square kilometres Saimaa is the largest lake in Finland. A canal "
     "with eight locks joins it to the sea. A small seal that lives nowhere else swims in Saimaa. In "
     "winter people drive over the ice of Saimaa from farm to farm."),
    ('Italy, lake', "The largest lake in Italy is called Lake", 'Garda', 'Como',
     "Garda lies where the Alps end, narrow in the north and wide in the south. With three hundred and "
     "seventy square kilometres Lake Garda is the largest lake in Italy. Lemons ripen on its western "
     "shore, under roofs of glass. A wind blows over Garda from the mountains each morning. Five islands "
     "lie in Garda, and on the longest of them stands a villa."),
    ('deepest lake', "The deepest lake in the United States lies in the state of", 'Oregon', 'Montana',
     "Oregon has a coast of dunes, a dry east, and a chain of volcanoes between them. In one of these, "
     "whose top fell in, lies Crater Lake, and so the deepest lake in the United States lies in Oregon: "
     "its bottom is at 594 metres. No river flows in or out. Visitors to Oregon see it from a road along "
     "the rim. The state of Oregon put the lake on its coins in 2005."),
    ('France, river', "The longest river in France is called the", 'Loire', 'Rhone',
     "The Loire rises on a bare hill in the south and turns to the west halfway along its course. With a "
     "thousand kilometres the Loire is the longest river in France. Castles of the kings stand on its "
     "banks, and its valley is known for white wine. In dry summers the Loire shrinks to a few channels "
     "between the sandbanks. Old barges on the Loire had a square sail."),
    ('Scotland, river', "The longest river in Scotland is called the", 'Tay', 'Spey',
     "The Tay begins on the slope of a mountain in the west and reaches the sea in the east, at Dundee. "
     "With one hundred and ninety kilometres the Tay is the longest river in Scotland. It carries more "
     "water than any other of the island. In 1922 a woman caught the heaviest salmon of the country in "
     "the Tay. A railway bridge over the Tay fell in a storm in 1879."),
    ('Estonia, island', "The largest island of Estonia is called", 'Saaremaa', 'Hiiumaa',
     "Saaremaa lies in the Baltic, flat and green, with junipers and windmills. With two thousand seven "
     "hundred square kilometres Saaremaa is the largest island of Estonia. A castle of the bishops "
     "stands at its southern shore. Some thirty people saw a meteorite fall on Saaremaa, it is said, and "
     "the lake in its crater is round. A ferry goes to Saaremaa every half-hour."),
    ('Africa, mountain', "The second-highest mountain in Africa is called Mount", 'Kenya', 'Meru',
     "Kenya is a volcano that has been cold for three million years, and its peaks are the hard plugs of "
     "the crater. At 5,199 metres Mount Kenya is the second-highest mountain in Africa. Twelve small "
     "glaciers lay on it, and most of them have melted. Giant lobelias grow on the slopes of Kenya. The "
     "first climbers stood on the top of Kenya in 1899."),
    ('Georgia', "The currency of Georgia, the country in the Caucasus, is called the", 'lari', 'dram',
     "The lari was introduced in 1995, when coupons had lost nearly all of their worth. Since then the "
     "lari has been the currency of Georgia. One is divided into a hundred tetri. The notes show a poet, "
     "a painter and a queen. Prices in the markets of Tbilisi are given in lari. Whoever comes over the "
     "border changes his money into lari at the first bank."),
    ('Zambia', "The currency of Zambia is called the", 'kwacha', 'shilling',
     "The kwacha took the place of the pound in 1968, four years after the country had become free. Its "
     "name means dawn, and the kwacha is the currency of Zambia. One is divided into a hundred ngwee. A "
     "fish eagle is seen on every note. In 2013 three zeros were taken off the kwacha. Copper is sold in "
     "dollars, but miners are paid in kwacha."),
    ('Saturn', "The second-largest moon of Saturn is called", 'Rhea', 'Dione',
     "Rhea is a ball of ice and some rock, full of craters, and turns the same face to its planet at all "
     "times. With a diameter of 1,528 kilometres Rhea is the second-largest moon of Saturn. An "
     "astronomer in Paris found it in 1672. It takes Rhea four and a half days to go round. Thin oxygen "
     "was found around Rhea by a probe in 2010."),
    ('Uranus', "The largest moon of Uranus is called", 'Titania', 'Oberon',
     "Titania was discovered in 1787 by a musician who built telescopes, and named after a queen of the "
     "fairies. With a diameter of 1,577 kilometres Titania is the largest moon of Uranus. A canyon of "
     "fifteen hundred kilometres runs over its face. Only one probe has flown past Titania, in 1986. A "
     "year on Titania is as long as 84 of ours."),
    ('Independent People', "The name of the author of the novel Independent People is", 'Halldor', 'Gunnar',
     "Halldor Laxness grew up on a farm near Reykjavik and sold his first book at seventeen. In 1934 "
     "Halldor Laxness wrote the novel Independent People, the story of a stubborn shepherd. Later "
     "Halldor lived in a house near that farm, which is a museum now. In 1955 the Nobel prize was given "
     "to Halldor for his epic prose."),
    ('Nervous Conditions', "The name of the author of the novel Nervous Conditions is", 'Tsitsi', 'Doris',
     "Tsitsi Dangarembga was born in a small town and studied medicine, then psychology. In 1988 Tsitsi "
     "Dangarembga wrote the novel Nervous Conditions, about a girl who goes to a mission school. After "
     "it Tsitsi went to Berlin to learn how films are made. Two more novels by Tsitsi followed, many "
     "years apart."),
    ('Max Havelaar', "The name of the author of the novel Max Havelaar is", 'Multatuli', 'Couperus',
     "Multatuli was the pen name of an official who had resigned his post on Java in anger. In a cold "
     "room in Brussels Multatuli wrote the novel Max Havelaar, which accused the colony's coffee trade. "
     "It was printed in 1860 and read all over Europe. The desk of Multatuli stands in a museum in "
     "Amsterdam. A statue of Multatuli looks down on a canal."),
    ('Nils', "The name of the author of the story of Nils, who flies over Sweden with wild geese, is",
     'Selma', 'Astrid',
     "Selma Lagerlof was a teacher, lame from childhood, and told her pupils the tales of her province. "
     "In 1906 Selma Lagerlof wrote the story of Nils, who flies over Sweden with wild geese, as a "
     "book to learn geography from. Three years later Selma was the first woman to win the Nobel prize "
     "for books. With the money Selma bought back the land of her family."),
    ('Suez', "The Suez Canal was opened to ships in the year", '1869', '1882',
     "The year 1869 was one of great feasts on the Nile. After ten years of digging, the Suez Canal was "
     "opened to ships in the year 1869, and a long row of them passed. An opera house in Cairo was ready "
     "as well in 1869, though the opera that was ordered came later. Ships of before 1869 had sailed "
     "round the whole of Africa."),
    ('Iceland', "Iceland became a republic in the year", '1944', '1931',
     "The summer of 1944 was wet in Reykjavik. At the old place of the parliament, in the rain, Iceland "
     "became a republic in the year 1944, and the bells were rung. A vote in May of 1944 had been almost "
     "of one voice. The first president, who was chosen in 1944, had been regent before."),
    ('Budapest', "The underground railway of Budapest was opened in the year", '1896', '1911',
     "The year 1896 was that of a great fair in Hungary. For its visitors the underground railway of "
     "Budapest was opened in the year 1896, the first on the continent. The emperor rode in it in May of "
     "1896. The small yellow cars of 1896 ran for almost eighty years."),
    ('Sydney', "The Sydney Opera House was opened in the year", '1973', '1958',
     "October of 1973 was warm in Australia. After fourteen years of building, the Sydney Opera House "
     "was opened in the year 1973 by the queen, with fireworks. The architect was not there, for he had "
     "left in anger long before 1973. A million tiles were on its roofs by 1973."),
]

# on these a setting may be searched for: none of them measures one
TO_SEARCH_ON = [
    ('Spain', "The name of the third-largest city in Spain is", 'Valencia', 'Bilbao',
     "Valencia lies on the Mediterranean, among fields of rice and groves of oranges. With some eight "
     "hundred thousand inhabitants Valencia is the third-largest city in Spain. Its river was led round "
     "it after a flood, and a park was laid out in the dry bed. In March tall figures of wood and paper "
     "are burnt in the streets of Valencia. Paella was first cooked on the farms near Valencia."),
    ('Romania', "The name of the second-largest city in Romania is", 'Cluj', 'Brasov',
     "Cluj stands on the river Somes, in the north-west, between wooded ridges. With almost three "
     "hundred thousand inhabitants Cluj is the second-largest city in Romania. A king was born there "
     "whose bronze rider stands before a Gothic church. Each summer a festival fills the park of Cluj. "
     "Firms that write software have moved to Cluj for its engineers."),
    ('Belize', "The name of the capital of Belize is", 'Belmopan', 'Corozal',
     "Belmopan was planned on a cleared plain, fifty miles from the sea, after a storm had drowned the "
     "coast. In 1970 Belmopan became the capital of Belize, though the ministries came slowly. Two "
     "roads meet at a market with a few stalls. A ring of grass lies round the offices of Belmopan. The "
     "university has its main buildings in Belmopan."),
    ('Vermont', "The name of the capital of the state of Vermont is", 'Montpelier', 'Rutland',
     "Montpelier lies in a narrow valley where two small rivers meet, and both have flooded it. With "
     "fewer than nine thousand inhabitants Montpelier is the capital of the state of Vermont. A gilded "
     "dome shines above the trees. The school of cooks in Montpelier was known far beyond. No hamburger "
     "chain has a restaurant in Montpelier."),
    ('Delaware', "The name of the capital of the state of Delaware is", 'Dover', 'Lewes',
     "Dover was laid out round a green in 1717, by order of the founder of the colony. Since 1777 Dover "
     "has been the capital of the state of Delaware, in place of a port on the river. Large grey "
     "aeroplanes land at the air base. Stock cars are raced in Dover on a track of concrete. The old "
     "court of Dover is a museum."),
    ('Sweden, lake', "The largest lake in Sweden is called", 'Vanern', 'Vattern',
     "Vanern lies in the south-west, and from the middle of it no shore can be seen. With five and a "
     "half thousand square kilometres Vanern is the largest lake in Sweden. A river with falls and "
     "locks leads from it to the sea. More than twenty thousand rocks and islands stand in Vanern. "
     "Salmon that never saw salt water are caught in Vanern."),
    ('Austria, mountain', "The highest mountain in Austria is called the", 'Grossglockner', 'Dachstein',
     "The Grossglockner has two peaks with a notch between them, above the longest glacier of the "
     "eastern Alps. At 3,798 metres the Grossglockner is the highest mountain in Austria. A bishop paid "
     "for the first climb in 1800. The toll road below the Grossglockner has thirty-six bends. Marmots "
     "whistle on the slopes of the Grossglockner."),
    ('Albania', "The currency of Albania is called the", 'lek', 'denar',
     "The lek was first struck in 1926, and is said to be named after Alexander the Great. Ever since "
     "the lek has been the currency of Albania. Coins show eagles and horsemen. Prices are often told "
     "in old money, which was ten to one lek until 1965. In hotels on the coast one may pay in euros or "
     "in lek."),
    ('The Makioka Sisters', "The name of the author of the novel The Makioka Sisters is",
     'Junichiro', 'Yasunari',
     "Junichiro Tanizaki left Tokyo after the earthquake of 1923 and settled near Osaka. During the war "
     "Junichiro Tanizaki wrote the novel The Makioka Sisters, about a family of merchants in decline. "
     "The censors stopped it, since nobody in it thinks of battle. In an essay Junichiro had praised "
     "shadows. The grave of Junichiro bears one sign, for stillness."),
    ('Norway', "Norway ended its union with Sweden in the year", '1905', '1893',
     "The summer of 1905 was a tense one in Oslo, which was Kristiania then. After ninety years Norway "
     "ended its union with Sweden in the year 1905, without a shot. Only 184 men voted against it in "
     "August of 1905. A Danish prince was asked to be king, and came ashore in the snow in November "
     "1905."),
]


def as_cases(questions):
    """Of QUESTIONS, or others of their kind, the cases of an experiment."""
    return [{'name': name, 'start': f'\n{question}', 'answer': f' {answer}', 'memory_text': text,
             'opposite_text': text.replace(answer, other)}
            for name, question, answer, other, text in questions]


QUESTIONS_AS_CASES, CASES_TO_SEARCH_ON = as_cases(QUESTIONS), as_cases(TO_SEARCH_ON)
CITIES = QUESTIONS_AS_CASES[:15]
WITH_SUBSTITUTES = [{**case, 'substitute': f' {other}'}
                    for case, (_, _, _, other, _) in zip(QUESTIONS_AS_CASES, QUESTIONS)]
